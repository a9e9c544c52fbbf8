"""The numbered stream of a run: append lines, read them back, follow them live.

PostgreSQL holds every line and gives the numbers; a Valkey stream carries the same lines to whoever watches, and may be
away at any time without loss::

    append(run.id, [EventLine(type="log", node="training", agent="TrainingAgent", message="Loading weights")])
    page = read(run.id, after=0, limit=500)
    async for event in follow(run.id, after=page[-1].seq): ...
"""

from pipelines.events.lines import EventJson, EventLine, Fence, StoredEvent
from pipelines.events.write import append

__all__ = ["EventJson", "EventLine", "Fence", "StoredEvent", "append"]
