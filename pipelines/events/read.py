"""Read a run's stored events from PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connection

from pipelines.events.lines import LEVELS, StoredEvent, from_row
from pipelines.models import Event, Run
from pipelines.models.run import TERMINAL

MAX_PAGE_EVENTS = 1000

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class StreamState:
    """How far a run's stream goes, and whether more may come."""

    last_seq: int
    has_ended: bool


def read(
    run_id: UUID,
    *,
    after: int = 0,
    before: int | None = None,
    limit: int = MAX_PAGE_EVENTS,
    level: str = "",
    node: str = "",
    search: str = "",
) -> list[StoredEvent]:
    """Return at most ``limit`` events numbered above ``after``, in order: the first ones, or the last ones below ``before``.

    ``level`` is the least severe that is shown, in the order of ``LEVELS``; ``node`` is a node's name; ``search`` is a
    part of the message, in any case.
    """
    rows = Event.objects.filter(run_id=run_id, seq__gt=after)
    if level:
        rows = rows.filter(level__in=LEVELS[LEVELS.index(level) :])
    if node:
        rows = rows.filter(node=node)
    if search:
        rows = rows.filter(message__icontains=search)
    limit = min(limit, MAX_PAGE_EVENTS)
    if before is not None:
        return [from_row(row) for row in rows.filter(seq__lt=before).order_by("-seq")[:limit]][::-1]
    return [from_row(row) for row in rows.order_by("seq")[:limit]]


def stream_state(run_id: UUID) -> StreamState | None:
    """Return how far the run's stream goes; None if the run was deleted."""
    row = Run.objects.filter(pk=run_id).values_list("last_seq", "status").first()
    return StreamState(last_seq=row[0], has_ended=row[1] in TERMINAL) if row else None


# Every viewer of this process shares these threads and hence at most two connections: a stream lives for hours, and one
# connection for each would soon be all that PostgreSQL has.
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="event-reader")


def _and_let_go(question: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    def ask(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        try:
            return question(*args, **kwargs)
        finally:
            connection.close()

    return ask


read_async = sync_to_async(_and_let_go(read), thread_sensitive=False, executor=_threads)
stream_state_async = sync_to_async(_and_let_go(stream_state), thread_sensitive=False, executor=_threads)
