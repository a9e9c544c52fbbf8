"""Viewers get every event once and in order, whatever happens to Valkey, to them, or to the run."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from pipelines.events import EventLine, TooSlow, append, feed, follow
from pipelines.events.valkey import stream_name, writing_client
from pipelines.models import Run, Status
from pipelines.tests.factories import RunFactory
from pipelines.tests.valkey_server import own_valkey

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run():
    return RunFactory()


def log_lines(count: int) -> list[EventLine]:
    return [EventLine(type="log", node="training", message=f"line {number}") for number in range(count)]


def _write(run_id: UUID, count: int) -> None:
    try:
        append(run_id, log_lines(count))
    finally:
        connection.close()


def _end(run_id: UUID, status: str = Status.SUCCEEDED) -> None:
    try:
        Run.objects.filter(pk=run_id).update(status=status)
        append(run_id, [EventLine(type="status", message=f"run {status}", data={"status": str(status)})])
    finally:
        connection.close()


def _reopen(run_id: UUID) -> None:
    try:
        Run.objects.filter(pk=run_id).update(status=Status.RUNNING)
        append(run_id, [EventLine(type="status", message="run running", data={"status": "running"})])
    finally:
        connection.close()


def _delete(run_id: UUID) -> None:
    try:
        Run.objects.filter(pk=run_id).delete()
    finally:
        connection.close()


write = sync_to_async(_write, thread_sensitive=False)
end = sync_to_async(_end, thread_sensitive=False)
delete = sync_to_async(_delete, thread_sensitive=False)
reopen = sync_to_async(_reopen, thread_sensitive=False)


async def collect(run_id: UUID, after: int = 0) -> list[int]:
    async with aclosing(follow(run_id, after)) as events:
        return [event.seq async for event in events]


async def until(condition, timeout_seconds: float = 10.0) -> None:
    async with asyncio.timeout(timeout_seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_viewer_gets_history_then_live_lines_and_ends_with_the_run(run):
    await write(run.id, 2_500)
    viewer = asyncio.create_task(collect(run.id))
    await asyncio.sleep(0.3)
    for _ in range(5):
        await write(run.id, 3)
    await end(run.id)

    assert await asyncio.wait_for(viewer, 10) == list(range(1, 2_517))


async def test_an_ended_run_is_told_without_waiting(run):
    await write(run.id, 3)
    await end(run.id)

    started = time.monotonic()
    assert await collect(run.id, after=1) == [2, 3, 4]
    assert await collect(run.id, after=4) == []
    assert time.monotonic() - started < 1.0


async def test_lines_written_while_viewers_join_reach_each_of_them_once(run):
    async def keep_writing() -> None:
        for _ in range(150):
            await write(run.id, 4)
        await end(run.id)

    writer = asyncio.create_task(keep_writing())
    viewers = []
    for _ in range(20):
        viewers.append(asyncio.create_task(collect(run.id)))
        await asyncio.sleep(0.03)
    await writer

    for seqs in await asyncio.wait_for(asyncio.gather(*viewers), 20):
        assert seqs == list(range(1, 602))


async def test_all_viewers_share_one_reader_which_stops_with_the_last(run):
    viewers = [asyncio.create_task(collect(run.id)) for _ in range(5)]
    feeds = feed._feeds.setdefault(asyncio.get_running_loop(), {})
    await until(lambda: run.id in feeds and len(feeds[run.id]._viewers) == 5)
    task = feeds[run.id]._task

    for viewer in viewers:
        viewer.cancel()
    await asyncio.gather(*viewers, return_exceptions=True)

    assert run.id not in feeds
    await until(task.done)


async def test_a_live_line_arrives_at_once(run):
    async with aclosing(follow(run.id)) as events:
        coming = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.5)
        started = time.monotonic()
        await write(run.id, 1)
        event = await asyncio.wait_for(coming, 5)

    assert event.seq == 1
    assert time.monotonic() - started < 0.5


async def test_lines_that_the_live_stream_lacks_are_read_from_the_database(run):
    async with aclosing(follow(run.id)) as events:
        coming = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.3)
        await write(run.id, 1)
        assert (await coming).seq == 1
        writing_client().xadd(stream_name(run.id), {"type": "log", "ends_run": "", "event": "{}"}, id="4-0")
        await write(run.id, 4)  # the stream refuses 2, 3 and 4 now, and takes 5

        assert [(await asyncio.wait_for(anext(events), 5)).seq for _ in range(4)] == [2, 3, 4, 5]


async def test_silence_of_the_live_stream_is_not_believed(run, monkeypatch):
    viewer = asyncio.create_task(collect(run.id))
    await asyncio.sleep(0.3)
    monkeypatch.setattr("pipelines.events.write.publish", lambda run_id, events: None)
    await write(run.id, 3)
    await end(run.id)

    assert await asyncio.wait_for(viewer, 5) == [1, 2, 3, 4]


async def test_valkey_may_stop_and_come_back_in_mid_stream(run, tmp_path):
    with own_valkey(tmp_path) as valkey:
        viewer = asyncio.create_task(collect(run.id))
        await asyncio.sleep(0.3)
        await write(run.id, 10)
        valkey.stop()
        for _ in range(4):
            await write(run.id, 10)
            await asyncio.sleep(0.6)
        joined_meanwhile = asyncio.create_task(collect(run.id, after=5))
        await asyncio.sleep(0.5)
        valkey.start()
        valkey.wait_ready()
        await write(run.id, 10)
        await asyncio.sleep(3.2)  # the writer's pause
        await write(run.id, 10)
        assert writing_client().exists(stream_name(run.id))
        await end(run.id)

        assert await asyncio.wait_for(viewer, 10) == list(range(1, 72))
        assert await asyncio.wait_for(joined_meanwhile, 10) == list(range(6, 72))


async def test_a_slow_viewer_is_told_its_last_number_and_the_others_go_on(run, monkeypatch):
    monkeypatch.setattr(feed, "QUEUE_EVENTS", 50)
    quick = asyncio.create_task(collect(run.id))
    async with aclosing(follow(run.id)) as events:
        coming = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.3)
        await write(run.id, 1)
        assert (await coming).seq == 1
        for _ in range(8):
            await write(run.id, 10)
            await asyncio.sleep(0.02)
        with pytest.raises(TooSlow) as told:
            await anext(events)
    await end(run.id)

    assert told.value.last_seq == 1
    assert await asyncio.wait_for(quick, 10) == list(range(1, 83))
    assert await collect(run.id, after=told.value.last_seq) == list(range(2, 83))


async def test_a_retried_run_is_followed_beyond_its_first_end(run):
    viewer = asyncio.create_task(collect(run.id))
    await asyncio.sleep(0.2)
    await write(run.id, 1)
    await end(run.id, Status.FAILED)
    assert await asyncio.wait_for(viewer, 5) == [1, 2]

    await reopen(run.id)
    viewer = asyncio.create_task(collect(run.id))
    await asyncio.sleep(0.3)
    await end(run.id)

    assert await asyncio.wait_for(viewer, 5) == [1, 2, 3, 4]


async def test_a_deleted_run_ends_its_stream(run):
    viewer = asyncio.create_task(collect(run.id))
    await asyncio.sleep(0.3)
    await delete(run.id)

    assert await asyncio.wait_for(viewer, 5) == []
