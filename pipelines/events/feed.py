"""Follow runs live: one reader per run and process feeds all its viewers.

A feed waits on the Valkey stream and hands each batch to a bounded queue per viewer. Whatever the stream lacks (lines of a
time when Valkey was away, or of a writer overtaken by a later one) shows as a gap in the numbers, or when the feed looks
at the run's row after each silent second, and is read from PostgreSQL.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from uuid import UUID
from weakref import WeakKeyDictionary

import redis
from django.db import InterfaceError, OperationalError

from pipelines.events.lines import StoredEvent
from pipelines.events.read import MAX_PAGE_EVENTS, read_async, stream_state_async
from pipelines.events.valkey import BLOCK_SECONDS, event_of, reading_client, stream_name

logger = logging.getLogger(__name__)

QUEUE_EVENTS = 10_000
POLL_SECONDS = 1.0
READ_COUNT = 500

Batch = Sequence[StoredEvent]


class TooSlow(Exception):
    """The viewer took its events too slowly; it can come again from ``last_seq`` without loss."""

    def __init__(self, last_seq: int) -> None:
        super().__init__(f"too slow, reconnect with after={last_seq}")
        self.last_seq = last_seq


async def follow(run_id: UUID, after: int = 0) -> AsyncGenerator[StoredEvent, None]:
    """Yield every event numbered above ``after``, in order without gap or repeat, until the run has ended.

    Raises: TooSlow: the caller left more than ``QUEUE_EVENTS`` events waiting. Django's database errors: PostgreSQL is
    away when the caller joins; later on the stream falls silent until it is back.
    """
    async with aclosing(follow_batches(run_id, after)) as batches:
        async for batch in batches:
            for event in batch:
                yield event


async def follow_batches(run_id: UUID, after: int = 0) -> AsyncGenerator[Batch, None]:
    """Yield what ``follow`` does, as many events at a time as are there."""
    position = after
    async with aclosing(_stored_batches(run_id, position)) as pages:
        async for page in pages:
            yield page
            position = page[-1].seq
    feed = _feed_of(run_id)
    viewer = await feed.join()
    try:
        # Once more, now that nothing new can be missed: what came between the last page and joining.
        async with aclosing(_stored_batches(run_id, position)) as pages:
            async for page in pages:
                yield page
                position = page[-1].seq
        while (batch := await viewer.take(position)) is not None:
            unseen = [event for event in batch if event.seq > position]
            if unseen:
                yield unseen
                position = unseen[-1].seq
    finally:
        feed.leave(viewer)


async def _stored_batches(run_id: UUID, position: int) -> AsyncGenerator[Batch, None]:
    while page := await read_async(run_id, after=position):
        yield page
        position = page[-1].seq
        if len(page) < MAX_PAGE_EVENTS:
            return


class _Viewer:
    """A bounded queue between the feed and one reader of it."""

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()
        self._waiting_events = 0
        self._is_slow = False
        self._has_ended = False
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    def offer(self, batch: Batch) -> None:
        """Queue ``batch``; a viewer that has too much waiting loses it all and is told so."""
        if self._is_slow:
            return
        self._batches.append(batch)
        self._waiting_events += len(batch)
        if self._waiting_events > QUEUE_EVENTS:
            self._is_slow = True
            self._batches.clear()
        self._changed.set()

    def end(self, error: Exception | None = None) -> None:
        """Say that nothing more will come."""
        self._has_ended, self._error = True, error
        self._changed.set()

    async def take(self, position: int) -> Batch | None:
        """Wait for the next batch; None after the last one. ``position`` is the number that the viewer has reached."""
        while not (self._batches or self._is_slow or self._has_ended):
            self._changed.clear()
            await self._changed.wait()
        if self._is_slow:
            raise TooSlow(position)
        if self._batches:
            batch = self._batches.popleft()
            self._waiting_events -= len(batch)
            return batch
        if self._error:
            raise self._error
        return None


class _Feed:
    """The one reader of a run's stream in this event loop."""

    def __init__(self, run_id: UUID) -> None:
        self._run_id = run_id
        self._position = 0
        self._viewers: set[_Viewer] = set()
        self._has_position = asyncio.Event()
        self._is_polling = False
        self._task = asyncio.create_task(self._run(), name=f"feed of run {run_id}")

    async def join(self) -> _Viewer:
        """Add a viewer; it gets every event above the position at this moment."""
        viewer = _Viewer()
        self._viewers.add(viewer)
        try:
            await self._has_position.wait()
        except asyncio.CancelledError:
            self.leave(viewer)
            raise
        return viewer

    def leave(self, viewer: _Viewer) -> None:
        """Remove a viewer; the feed stops with the last one."""
        self._viewers.discard(viewer)
        if not self._viewers:
            self._forget()
            self._task.cancel()

    async def _run(self) -> None:
        error: Exception | None = None
        try:
            await self._follow()
        except Exception as failure:
            error = failure
            logger.exception("events.feed_failed", extra={"run_id": str(self._run_id)})
        finally:
            self._forget()
            self._has_position.set()
            for viewer in self._viewers:
                viewer.end(error)

    async def _follow(self) -> None:
        state = await stream_state_async(self._run_id)
        if state is None:
            return
        self._position = state.last_seq
        self._has_position.set()
        async with reading_client() as client:
            while not await self._has_run_ended():
                while await self._take_from_stream(client):
                    pass

    async def _take_from_stream(self, client: redis.asyncio.Redis) -> bool:
        """Hand out the stream's next batch; False where PostgreSQL must be asked: silence, a gap, the end of the run."""
        name = stream_name(self._run_id)
        try:
            answer = await client.xread({name: f"{self._position}-0"}, count=READ_COUNT, block=int(BLOCK_SECONDS * 1000))
        except (redis.RedisError, OSError) as error:
            if not self._is_polling:
                logger.warning("events.polling while the live stream is away: %s", error)
            self._is_polling = True
            await asyncio.sleep(POLL_SECONDS)
            return False
        self._is_polling = False
        batch = [event_of(entry_id, fields) for _, entries in answer for entry_id, fields in entries]
        if [event.seq for event in batch] != list(range(self._position + 1, self._position + 1 + len(batch))):
            return False
        self._hand_out(batch)
        return bool(batch) and not batch[-1].ends_run

    async def _has_run_ended(self) -> bool:
        """Hand out what PostgreSQL has beyond the position, and say whether the run has ended there."""
        try:
            state = await stream_state_async(self._run_id)
            if state is None:
                return True
            if state.last_seq > self._position:
                async with aclosing(_stored_batches(self._run_id, self._position)) as pages:
                    async for page in pages:
                        self._hand_out(page)
        except (OperationalError, InterfaceError) as error:
            logger.warning("events.waiting for the database: %s", error)
            await asyncio.sleep(POLL_SECONDS)
            return False
        return state.has_ended and self._position >= state.last_seq

    def _hand_out(self, batch: Batch) -> None:
        if batch:
            self._position = batch[-1].seq
            for viewer in self._viewers:
                viewer.offer(batch)

    def _forget(self) -> None:
        feeds = _feeds.get(asyncio.get_running_loop(), {})
        if feeds.get(self._run_id) is self:
            del feeds[self._run_id]


_feeds: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[UUID, _Feed]] = WeakKeyDictionary()


def _feed_of(run_id: UUID) -> _Feed:
    feeds = _feeds.setdefault(asyncio.get_running_loop(), {})
    if run_id not in feeds:
        feeds[run_id] = _Feed(run_id)
    return feeds[run_id]
