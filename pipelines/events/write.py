"""Append lines to a run's stream: numbers and rows in one transaction, then the live stream."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Sequence
from uuid import UUID

import redis
from django.db import connection, transaction

from pipelines.events.lines import EventLine, Fence, StoredEvent, cleaned, stored
from pipelines.events.valkey import STREAM_LIFETIME_SECONDS, STREAM_MAX_EVENTS, fields_of, stream_name, writing_client
from pipelines.models import Run

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 3.0
PUBLISH_BATCH = 500

_LOCK_RUN = "SELECT 1 FROM pipelines_run WHERE id = %s FOR NO KEY UPDATE"
_TAKE_NUMBERS = "UPDATE pipelines_run SET last_seq = last_seq + %s WHERE id = %s"
_IF_FENCE_HOLDS = """ AND EXISTS (
    SELECT 1 FROM pipelines_noderun
    WHERE id = %s AND attempt = %s AND lease_worker = %s AND status IN ('running', 'canceling'))"""
_INSERT = """
INSERT INTO pipelines_event
    (run_id, seq, type, node, attempt, agent, level, message, "timestamp", step, epoch, loss, data)
SELECT %s, * FROM unnest(
    %s::bigint[], %s::text[], %s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::timestamptz[],
    %s::bigint[], %s::float8[], %s::float8[], %s::jsonb[])"""


def append(run_id: UUID, lines: Sequence[EventLine], *, fence: Fence | None = None) -> int | None:
    """Number and store ``lines``, within the caller's transaction or one of its own, and show them after commit.

    Numbers follow the run's last one without a gap, also between concurrent writers: the run's row is locked until the
    transaction ends, so keep that short. Valkey being away costs the writer at most half a second every few seconds.

    Returns: the number of the last line; None if ``fence`` no longer holds, and then nothing was written.
    Raises: Run.DoesNotExist: there is no such run.
    """
    if not lines:
        raise ValueError("append needs at least one line")
    lines = [cleaned(line) for line in lines]
    with transaction.atomic(savepoint=False):
        last_seq = _take_numbers(run_id, len(lines), fence)
        if last_seq is None:
            return None
        events = [stored(run_id, seq, line) for seq, line in enumerate(lines, start=last_seq - len(lines) + 1)]
        _insert(run_id, events, lines)
        transaction.on_commit(functools.partial(publish, run_id, events), robust=True)
    return last_seq


def publish(run_id: UUID, events: Sequence[StoredEvent]) -> None:
    """Add ``events`` to the live stream; without Valkey do nothing, for readers find them in PostgreSQL."""
    if _pause.is_on():
        return
    try:
        for start in range(0, len(events), PUBLISH_BATCH):
            _send(run_id, events[start : start + PUBLISH_BATCH])
    except (redis.RedisError, OSError) as error:
        _pause.begin()
        logger.warning("events.publish_skipped for %s s: %s", PAUSE_SECONDS, error)


def _take_numbers(run_id: UUID, count: int, fence: Fence | None) -> int | None:
    with connection.cursor() as cursor:
        if fence is None:
            cursor.execute(f"{_TAKE_NUMBERS} RETURNING last_seq", [count, run_id])
        else:
            # The run is locked by a statement of its own, so that the next one sees what was committed while it waited:
            # whoever takes a lease away appends to the run in the same transaction.
            cursor.execute(_LOCK_RUN, [run_id])
            holder = [fence.node_run_id, fence.attempt, fence.worker]
            cursor.execute(f"{_TAKE_NUMBERS}{_IF_FENCE_HOLDS} RETURNING last_seq", [count, run_id, *holder])
        row = cursor.fetchone()
    if row is None and fence is None:
        raise Run.DoesNotExist(f"there is no run {run_id}")
    return row[0] if row else None


def _insert(run_id: UUID, events: Sequence[StoredEvent], lines: Sequence[EventLine]) -> None:
    columns = [
        [event.seq for event in events],
        *(
            [getattr(line, name) for line in lines]
            for name in ("type", "node", "attempt", "agent", "level", "message", "timestamp", "step", "epoch", "loss")
        ),
        [json.dumps(line.data, ensure_ascii=False, allow_nan=False) for line in lines],
    ]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [run_id, *columns])


def _send(run_id: UUID, events: Sequence[StoredEvent]) -> None:
    name = stream_name(run_id)
    pipeline = writing_client().pipeline(transaction=False)
    for event in events:
        pipeline.xadd(name, fields_of(event), id=f"{event.seq}-0", maxlen=STREAM_MAX_EVENTS, approximate=True)
    pipeline.expire(name, STREAM_LIFETIME_SECONDS)
    # A number that is not above the stream's last is refused: a resend, or a writer overtaken by a later commit, whose
    # lines readers then take from PostgreSQL because they see the gap.
    for answer in pipeline.execute(raise_on_error=False):
        if isinstance(answer, redis.ResponseError) and "XADD is equal or smaller" not in str(answer):
            raise answer


class _Pause:
    """A few seconds without attempts after Valkey failed, so that an outage costs a writer little."""

    def __init__(self) -> None:
        self._until = 0.0

    def is_on(self) -> bool:
        return time.monotonic() < self._until

    def begin(self) -> None:
        self._until = time.monotonic() + PAUSE_SECONDS


_pause = _Pause()
