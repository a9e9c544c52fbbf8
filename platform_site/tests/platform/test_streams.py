"""Four ways to read a run's events give the same lines, without gap or repeat."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests
from websockets.sync.client import connect

from platform_site.tests.platform.harness import Platform, chat_rows, pipeline


def server_sent(platform: Platform, run_id: str, *, last_id: int | None = None) -> Iterator[dict]:
    headers = {"Authorization": f"Token {platform.key}", "Accept": "text/event-stream"}
    if last_id is not None:
        headers["Last-Event-ID"] = str(last_id)
    with requests.get(f"{platform.url}/api/v1/logs/stream/{run_id}", headers=headers, stream=True, timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        event_id = ""
        for line in answer.iter_lines(decode_unicode=True):
            if line.startswith("id:"):
                event_id = line.removeprefix("id:").strip()
            elif line.startswith("data:"):
                event = json.loads(line.removeprefix("data:"))
                assert str(event["seq"]) == event_id
                yield event


def web_socket(platform: Platform, run_id: str, *, after: int = 0) -> Iterator[dict]:
    address = f"ws://127.0.0.1:{platform.port}/ws/runs/{run_id}?after={after}"
    with connect(address, subprotocols=[f"token.{platform.key}", "truetune.events"], proxy=None, close_timeout=1) as socket:
        for text in socket:
            yield json.loads(text)


def json_lines(platform: Platform, run_id: str, *, after: int = 0) -> Iterator[dict]:
    return platform.json_lines(run_id, after=after)


def broken_in_the_middle(read, platform: Platform, run_id: str) -> list[dict]:
    """Read some events, drop the connection, and go on after the last number."""
    events: list[dict] = []
    stream = read(platform, run_id)
    for event in stream:
        events.append(event)
        if len(events) == 7:
            break
    stream.close()
    option = "last_id" if read is server_sent else "after"
    return events + list(read(platform, run_id, **{option: events[-1]["seq"]}))


@pytest.fixture(scope="module")
def run_id(running) -> str:
    platform = running.platform
    dataset = platform.upload(chat_rows(40), name="streams")
    return platform.start_run(pipeline(dataset, training={"epochs": 3}, full=False))


@pytest.fixture(scope="module")
def live(running, run_id: str) -> list[dict]:
    """The events as they came while the run went on."""
    events = list(running.platform.json_lines(run_id))
    assert running.platform.get(f"/jobs/{run_id}")["status"] == "succeeded"
    return events


def test_live_stream_has_every_number_once_and_ends_with_the_run(live: list[dict]):
    assert [event["seq"] for event in live] == list(range(1, len(live) + 1))
    assert (live[-1]["type"], live[-1]["node"], live[-1]["data"]["status"]) == ("status", None, "succeeded")
    assert {"log", "metric", "status"} == {event["type"] for event in live}


@pytest.mark.parametrize("read", [server_sent, json_lines, web_socket])
def test_stream_is_the_same_afterwards(platform: Platform, run_id: str, live: list[dict], read):
    assert list(read(platform, run_id)) == live


@pytest.mark.parametrize("read", [server_sent, json_lines, web_socket])
def test_reconnect_in_the_middle_loses_and_repeats_nothing(platform: Platform, run_id: str, live: list[dict], read):
    assert broken_in_the_middle(read, platform, run_id) == live


def test_history_is_the_same(platform: Platform, run_id: str, live: list[dict]):
    assert platform.history(run_id) == live


def test_readers_that_reconnect_while_the_run_goes_on_miss_nothing(platform: Platform):
    dataset = platform.upload(chat_rows(40), name="streams")
    run_id = platform.start_run(pipeline(dataset, training={"epochs": 4}, full=False))
    read = [broken_in_the_middle(reader, platform, run_id) for reader in (server_sent, json_lines, web_socket)]
    history = platform.history(run_id)
    assert read == [history, history, history]
