"""The readers of a run's events over HTTP, through a real server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest
import requests
from django.db import connection, transaction

from pipelines.api.views import logs
from pipelines.events import EventLine, append, feed
from pipelines.models import Run, Status
from pipelines.tests.factories import RunFactory

SSE = {"Accept": "text/event-stream"}


def log_lines(count: int, **values) -> list[EventLine]:
    return [EventLine(type="log", node="training", message=f"line {number}", **values) for number in range(count)]


def end(run: Run, status: str = Status.SUCCEEDED) -> None:
    with transaction.atomic():  # as the planner does: nobody may see the run ended and its last line not there
        Run.objects.filter(pk=run.pk).update(status=status)
        append(run.id, [EventLine(type="status", message=f"run {status}", data={"status": str(status)})])


def in_background(function, *arguments) -> threading.Thread:
    def work() -> None:
        try:
            function(*arguments)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def write_slowly(run: Run) -> None:
    for _ in range(10):
        time.sleep(0.05)
        append(run.id, log_lines(5))
    end(run)


def sse_events(answer: requests.Response) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
        if not line:
            if "data" in event:
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value


@pytest.fixture
def run(user) -> Run:
    return RunFactory(owner=user, client_run_id="abc123")


@pytest.fixture
def session(site, user) -> requests.Session:
    session = requests.Session()
    session.headers["Authorization"] = f"Token {site.key_of(user, 'read')}"
    return session


class TestStream:
    def test_json_lines_begin_at_once_and_end_with_the_run(self, site, session, run):
        append(run.id, log_lines(3))
        with session.get(f"{site.api}/logs/stream/abc123", stream=True, timeout=20) as answer:
            assert answer.headers["Content-Type"] == "application/x-ndjson"
            lines = answer.iter_lines(chunk_size=1)
            first = json.loads(next(lines))
            writer = in_background(write_slowly, run)
            rest = [json.loads(line) for line in lines]
        writer.join()

        assert first["message"] == "line 0"
        assert [event["seq"] for event in rest] == list(range(2, 55))
        assert rest[-1]["data"] == {"status": "succeeded"}

    def test_sse_carries_number_type_and_the_same_line(self, site, session, run):
        append(run.id, log_lines(2))
        end(run)

        with session.get(f"{site.api}/logs/stream/{run.id}", headers=SSE, stream=True, timeout=20) as answer:
            events = list(sse_events(answer))
        lines = session.get(f"{site.api}/logs/stream/{run.id}", timeout=20).text.splitlines()

        assert answer.headers["Content-Type"] == "text/event-stream"
        assert [event["id"] for event in events] == ["1", "2", "3"]
        assert [event["event"] for event in events] == ["log", "log", "status"]
        assert [event["data"] for event in events] == lines

    def test_sse_goes_on_after_the_last_event_id(self, site, session, run):
        append(run.id, log_lines(5))
        end(run)

        headers = SSE | {"Last-Event-ID": "4"}
        with session.get(f"{site.api}/logs/stream/{run.id}?after=1", headers=headers, stream=True, timeout=20) as answer:
            assert [event["id"] for event in sse_events(answer)] == ["5", "6"]

    def test_an_event_source_that_has_everything_is_told_to_stop(self, site, session, run):
        append(run.id, log_lines(1))
        end(run)

        assert (
            session.get(f"{site.api}/logs/stream/{run.id}", headers=SSE | {"Last-Event-ID": "2"}, timeout=5).status_code == 204
        )

    def test_sse_keeps_a_silent_connection_alive(self, site, session, run, monkeypatch):
        monkeypatch.setattr(logs, "KEEP_ALIVE_SECONDS", 0.1)
        with session.get(f"{site.api}/logs/stream/{run.id}", headers=SSE, stream=True, timeout=20) as answer:
            lines = answer.iter_lines(chunk_size=1, decode_unicode=True)
            shown = [next(lines) for _ in range(6)]
            writer = in_background(end, run)
            rest = list(lines)
        writer.join()

        assert shown == ["retry: 2000", "", ": nothing new", "", ": nothing new", ""]
        assert "id: 1" in rest

    def test_a_reconnect_in_the_middle_loses_and_repeats_nothing(self, site, session, run):
        writer = in_background(write_slowly, run)
        seqs: list[int] = []
        while not seqs or seqs[-1] < 51:
            with session.get(f"{site.api}/logs/stream/{run.id}?after={len(seqs)}", stream=True, timeout=20) as answer:
                for line, _ in zip(answer.iter_lines(chunk_size=1), range(13), strict=False):
                    seqs.append(json.loads(line)["seq"])
        writer.join()

        assert seqs == list(range(1, 52))

    def test_a_viewer_that_leaves_stops_the_reader(self, site, session, run):
        answer = session.get(f"{site.api}/logs/stream/{run.id}", headers=SSE, stream=True, timeout=20)
        lines = answer.iter_lines(chunk_size=1)
        next(lines)
        _until(lambda: _followed(run))
        answer.close()

        _until(lambda: not _followed(run))

    def test_streams_hold_no_database_connections(self, site, session, run):
        answers = [session.get(f"{site.api}/logs/stream/{run.id}", headers=SSE, stream=True, timeout=20) for _ in range(8)]
        readers = [answer.iter_lines(chunk_size=1) for answer in answers]
        for reader in readers:
            next(reader)
        _until(lambda: _followed(run))
        time.sleep(0.3)

        pool = connection.pool.get_stats()
        held = pool["pool_size"] - pool["pool_available"]
        for answer in answers:
            answer.close()

        assert held <= 3  # this test's own, and the feed's threads

    def test_a_slow_reader_of_lines_gets_them_all(self, site, session, run, monkeypatch):
        monkeypatch.setattr(feed, "QUEUE_EVENTS", 20)
        line = EventLine(type="log", message="x" * 10_000)
        with session.get(f"{site.api}/logs/stream/{run.id}", stream=True, timeout=20) as answer:
            _until(lambda: _followed(run))
            for _ in range(60):
                append(run.id, [line] * 50)
            end(run)
            seqs = [json.loads(line)["seq"] for line in answer.iter_lines()]

        assert seqs == list(range(1, 3_002))

    def test_errors_keep_their_shape(self, site, session, run):
        answer = session.get(f"{site.api}/logs/stream/{run.id}?after=-1", headers=SSE, timeout=5)

        assert answer.status_code == 400
        assert answer.json()["errors"][0]["field"] == "after"


def _followed(run: Run) -> bool:
    return any(run.id in feeds for feeds in list(feed._feeds.values()))


def _until(condition, timeout_seconds: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.django_db
class TestHistory:
    def test_pages_follow_each_other(self, api_client, run):
        append(run.id, log_lines(5))

        first = api_client.get(f"/api/v1/logs/history/{run.id}?limit=3").json()
        second = api_client.get(first["next"]).json()

        assert [event["seq"] for event in first["results"]] == [1, 2, 3]
        assert [event["seq"] for event in second["results"]] == [4, 5]
        assert second["next"] is None

    def test_pages_go_back_from_a_number(self, api_client, run):
        append(run.id, log_lines(5))

        last = api_client.get(f"/api/v1/logs/history/{run.id}?before=6&limit=3").json()
        first = api_client.get(last["previous"]).json()

        assert [event["seq"] for event in last["results"]] == [3, 4, 5]
        assert last["next"] is None
        assert [event["seq"] for event in first["results"]] == [1, 2]
        assert first["previous"] is None

    @pytest.mark.parametrize(
        ("query", "seqs"),
        [
            ("before=3", [1, 2]),
            ("level=WARNING", [2, 3]),
            ("level=info", [1, 2, 3]),
            ("node=export", [3]),
            ("search=NEEDLE", [2]),
            ("search=%25", []),
            ("after=2", [3]),
        ],
    )
    def test_filters(self, api_client, run, query, seqs):
        append(
            run.id,
            [
                EventLine(type="log", node="training", message="hay"),
                EventLine(type="log", node="training", level="WARNING", message="a needle"),
                EventLine(type="log", node="export", level="ERROR", message="hay"),
            ],
        )

        page = api_client.get(f"/api/v1/logs/history/{run.id}?{query}").json()

        assert [event["seq"] for event in page["results"]] == seqs

    @pytest.mark.parametrize("query", ["limit=0", "limit=1001", "level=LOUD", "after=x"])
    def test_a_bad_filter_is_named(self, api_client, run, query):
        answer = api_client.get(f"/api/v1/logs/history/{run.id}?{query}")

        assert answer.status_code == 400
        assert answer.json()["errors"][0]["field"] == query.partition("=")[0]

    @pytest.mark.parametrize("path", ["logs/history", "logs/stream"])
    def test_a_strangers_run_is_not_there(self, api_client, other_user, path):
        stranger = RunFactory(owner=other_user, client_run_id="theirs")

        assert api_client.get(f"/api/v1/{path}/{stranger.id}").status_code == 404
        assert api_client.get(f"/api/v1/{path}/theirs").status_code == 404
