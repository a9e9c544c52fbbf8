"""The websocket of a run, through a real server: who may watch, and the same lines as everywhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
import requests
import websockets
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import Client
from websockets.exceptions import ConnectionClosed

from pipelines.api.tests.test_logs import end, in_background, log_lines, write_slowly
from pipelines.events import append, feed, read
from pipelines.models import Run
from pipelines.tests.factories import RunFactory
from pipelines.tests.live_site import LiveSite, live_site

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(transactional_db) -> Iterator[LiveSite]:
    with live_site() as site:
        yield site


@pytest.fixture
def run(user) -> Run:
    return RunFactory(owner=user, client_run_id="abc123")


@pytest.fixture
def key(site, user) -> str:
    return site.key_of(user, "read")


@pytest.fixture
def cookie(user) -> str:
    client = Client()
    client.force_login(user)
    return f"sessionid={client.cookies['sessionid'].value}"


async def frames(socket) -> list[str]:
    return [frame async for frame in socket]


def with_token(key: str) -> dict[str, object]:
    return {"subprotocols": [f"token.{key}", "truetune.events"]}


async def test_a_token_watches_to_the_end(site, run, key):
    writer = await sync_to_async(in_background, thread_sensitive=False)(write_slowly, run)
    async with websockets.connect(f"ws://{site.host}/ws/runs/{run.id}", **with_token(key)) as socket:
        events = [json.loads(frame) for frame in await asyncio.wait_for(frames(socket), 20)]
    await asyncio.to_thread(writer.join)

    assert socket.subprotocol == "truetune.events"
    assert [event["seq"] for event in events] == list(range(1, 52))
    assert (socket.close_code, socket.close_reason) == (1000, "the run has ended")


async def test_a_page_of_this_site_watches_with_its_session(site, run, cookie):
    await _in_thread(_write_and_end, run)
    headers = {"Cookie": cookie}
    async with websockets.connect(
        f"ws://{site.host}/ws/runs/abc123?after=2", origin=f"http://{site.host}", additional_headers=headers
    ) as socket:
        shown = [json.loads(frame)["seq"] for frame in await asyncio.wait_for(frames(socket), 10)]

    assert shown == [3, 4]


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", None])
async def test_a_session_from_a_page_of_another_site_is_refused(site, run, cookie, origin):
    async with websockets.connect(
        f"ws://{site.host}/ws/runs/{run.id}", origin=origin, additional_headers={"Cookie": cookie}
    ) as socket:
        assert await _close_code(socket) == 4401


@pytest.mark.parametrize("offer", [{}, with_token("ft_wrong"), with_token("")])
async def test_nobody_and_a_bad_token_are_refused(site, run, offer):
    async with websockets.connect(f"ws://{site.host}/ws/runs/{run.id}", **offer) as socket:
        assert await _close_code(socket) == 4401
    assert socket.close_reason


async def test_a_strangers_run_is_not_there(site, run, other_user):
    key = await _in_thread(site.key_of, other_user, "read")

    async with websockets.connect(f"ws://{site.host}/ws/runs/{run.id}", **with_token(key)) as socket:
        assert await _close_code(socket) == 4404


async def test_another_address_is_not_there(site, key):
    async with websockets.connect(f"ws://{site.host}/ws/other", **with_token(key)) as socket:
        assert await _close_code(socket) == 4404


async def test_a_slow_viewer_is_told_to_come_again(site, run, key, monkeypatch):
    monkeypatch.setattr(feed, "QUEUE_EVENTS", 20)
    async with websockets.connect(f"ws://{site.host}/ws/runs/{run.id}", max_queue=1, **with_token(key)) as socket:
        await _until_followed(run)
        await _in_thread(_write_much, run)
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(_take_all(socket, seqs := []), 30)

    assert socket.close_code == 4408
    assert socket.close_reason == f"too slow, reconnect with after={seqs[-1]}"
    assert seqs == list(range(1, seqs[-1] + 1))
    assert seqs[-1] < 3_000


async def test_a_viewer_that_vanishes_while_it_is_sent_something_is_forgotten(site, run, key, caplog):
    socket = await websockets.connect(f"ws://{site.host}/ws/runs/{run.id}", **with_token(key))
    await _until_followed(run)
    writer = asyncio.create_task(_in_thread(_write_much, run))
    await socket.recv()
    socket.transport.abort()
    await writer

    async with asyncio.timeout(10):
        while _is_followed(run):
            await asyncio.sleep(0.02)
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


async def test_what_a_viewer_sends_changes_nothing(site, run, key):
    async with websockets.connect(f"ws://{site.host}/ws/runs/{run.id}", **with_token(key)) as socket:
        await socket.send("hello")
        await socket.send(b"\x00\x01")
        await _in_thread(_write_and_end, run)
        shown = [json.loads(frame)["seq"] for frame in await asyncio.wait_for(frames(socket), 10)]

    assert shown == [1, 2, 3, 4]


@pytest.mark.parametrize("after", ["-1", "x", "", "²", "9" * 30])
async def test_a_bad_number_is_no_reason_to_fail(site, run, key, after):
    await _in_thread(_write_and_end, run)

    async with websockets.connect(f"ws://{site.host}/ws/runs/{run.id}?after={after}", **with_token(key)) as socket:
        await asyncio.wait_for(frames(socket), 10)

    assert socket.close_code == 1000


async def test_four_readers_show_the_same_lines(site, run, key):
    writer = await sync_to_async(in_background, thread_sensitive=False)(write_slowly, run)
    url, headers = f"{site.api}/logs/stream/{run.id}", {"Authorization": f"Token {key}"}
    lines = asyncio.to_thread(requests.get, url, headers=headers, timeout=30)
    sse = asyncio.to_thread(requests.get, url, headers=headers | {"Accept": "text/event-stream"}, timeout=30)
    async with websockets.connect(f"ws://{site.host}/ws/runs/{run.id}", **with_token(key)) as socket:
        lines, sse, by_socket = await asyncio.gather(lines, sse, frames(socket))
    by_lines = lines.text.splitlines()
    await asyncio.to_thread(writer.join)
    by_history = await _in_thread(lambda: [event.text for event in read(run.id)])

    assert [json.loads(line)["seq"] for line in by_lines] == list(range(1, 52))
    assert by_lines == by_history
    assert by_lines == by_socket
    assert by_lines == [line.removeprefix("data: ") for line in sse.text.splitlines() if line.startswith("data: ")]


async def _take_all(socket, seqs: list[int]) -> None:
    while True:
        seqs.append(json.loads(await socket.recv())["seq"])


async def _close_code(socket) -> int:
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(socket.recv(), 10)
    return socket.close_code


async def _in_thread(function, *arguments):
    def work():
        try:
            return function(*arguments)
        finally:
            connection.close()

    return await asyncio.to_thread(work)


def _write_and_end(run: Run) -> None:
    append(run.id, log_lines(3))
    end(run)


def _write_much(run: Run) -> None:
    for _ in range(60):
        append(run.id, log_lines(50, data={"filler": "x" * 10_000}))


async def _until_followed(run: Run) -> None:
    async with asyncio.timeout(10):
        while not _is_followed(run):
            await asyncio.sleep(0.02)


def _is_followed(run: Run) -> bool:
    return any(run.id in feeds for feeds in list(feed._feeds.values()))
