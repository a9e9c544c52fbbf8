"""The numbered stream of a run: append lines, read them back, follow them live.

PostgreSQL holds every line and gives the numbers; a Valkey stream carries the same lines to whoever watches, and may be
away at any time without loss::

    append(run.id, [EventLine(type="log", node="training", agent="TrainingAgent", message="Loading weights")])
    page = read(run.id, after=0, limit=500)
    async for event in follow(run.id, after=page[-1].seq): ...
"""

from pipelines.events.feed import TooSlow, follow, follow_batches
from pipelines.events.lines import LEVELS, EventJson, EventLine, Fence, StoredEvent
from pipelines.events.read import MAX_PAGE_EVENTS, StreamState, read, stream_state
from pipelines.events.write import append

__all__ = [
    "LEVELS",
    "MAX_PAGE_EVENTS",
    "EventJson",
    "EventLine",
    "Fence",
    "StoredEvent",
    "StreamState",
    "TooSlow",
    "append",
    "follow",
    "follow_batches",
    "read",
    "stream_state",
]
