"""The form of one event: as a writer gives it, as it is stored, and as every reader shows it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal, NotRequired, TypedDict
from uuid import UUID

from django.utils import timezone

from pipelines.models import Event
from pipelines.models.run import TERMINAL

MAX_MESSAGE_CHARACTERS = 16_384
LEVELS = ("DEBUG", "INFO", "METRIC", "WARNING", "ERROR", "CRITICAL")
EventType = Literal["log", "metric", "status"]


class EventJson(TypedDict):
    """One event on the wire. ``step``, ``epoch`` and ``loss`` are there for metrics only."""

    seq: int
    type: str
    run_id: str
    node: str | None
    attempt: int | None
    timestamp: str
    agent: str | None
    level: str
    message: str
    step: NotRequired[int | None]
    epoch: NotRequired[float | None]
    loss: NotRequired[float | str | None]
    data: dict[str, object]


@dataclass(frozen=True, kw_only=True)
class EventLine:
    """One line before it has a number.

    ``node`` and ``agent`` are empty for lines of the run itself. ``loss`` may be NaN or infinite, as a float or as the
    text ``nan``, ``inf``, ``-inf``; it is kept and shown as that text.
    """

    type: EventType
    message: str
    node: str = ""
    attempt: int | None = None
    agent: str = ""
    level: str = "INFO"
    timestamp: datetime = field(default_factory=timezone.now)
    step: int | None = None
    epoch: float | None = None
    loss: float | str | None = None
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Fence:
    """Who writes: the attempt and the worker that must still hold its lease when the lines are stored."""

    node_run_id: UUID
    attempt: int
    worker: str


@dataclass(frozen=True, kw_only=True)
class StoredEvent:
    """A numbered line with its JSON text, which is the same bytes for every reader."""

    seq: int
    type: str
    text: str
    ends_run: bool = False
    """Whether this is the status event with which the run ended; a retry may open it again."""

    @property
    def json(self) -> EventJson:
        """Return the event as an object."""
        return json.loads(self.text)


def cleaned(line: EventLine) -> EventLine:
    """Return ``line`` in a form that PostgreSQL's text, float8 and jsonb give back unchanged.

    NUL characters and lone surrogates become U+FFFD, numbers that JSON lacks become text, and a message beyond
    ``MAX_MESSAGE_CHARACTERS`` is cut with a note of how much is missing.
    """
    message = _text(line.message)
    if len(message) > MAX_MESSAGE_CHARACTERS:
        missing = len(message) - MAX_MESSAGE_CHARACTERS
        message = f"{message[:MAX_MESSAGE_CHARACTERS]}… [{missing} more characters]"
    data = _value(line.data)
    loss = None if line.loss is None else float(line.loss)
    if loss is not None and not math.isfinite(loss):
        data, loss = {**data, "loss": str(loss)}, None
    epoch = float(line.epoch) if line.epoch is not None and math.isfinite(line.epoch) else None
    return replace(line, message=message, level=line.level.upper()[:8], epoch=epoch, loss=loss, data=data)


def stored(run_id: UUID, seq: int, line: EventLine) -> StoredEvent:
    """Give ``line``, which must be ``cleaned``, its number and its JSON text."""
    shown = _json(run_id, seq, line)
    text = json.dumps(shown, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    ends_run = line.type == "status" and not line.node and line.data.get("status") in TERMINAL
    return StoredEvent(seq=seq, type=str(line.type), text=text, ends_run=ends_run)


def from_row(event: Event) -> StoredEvent:
    """Return a row of the table in the form that its writer sent to the watchers."""
    line = EventLine(
        type=event.type,  # type: ignore[arg-type]
        message=event.message,
        node=event.node,
        attempt=event.attempt,
        agent=event.agent,
        level=event.level,
        timestamp=event.timestamp,
        step=event.step,
        epoch=event.epoch,
        loss=event.loss,
        data=event.data,
    )
    return stored(event.run_id, event.seq, line)


def _json(run_id: UUID, seq: int, line: EventLine) -> EventJson:
    data = _sorted(line.data)
    shown: dict[str, object] = {
        "seq": seq,
        "type": str(line.type),
        "run_id": str(run_id),
        "node": line.node or None,
        "attempt": line.attempt,
        "timestamp": line.timestamp.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "agent": line.agent or None,
        "level": line.level,
        "message": line.message,
    }
    if line.type == "metric":
        loss = data.pop("loss", None) if line.loss is None and isinstance(data.get("loss"), str) else line.loss
        shown |= {"step": line.step, "epoch": _number(line.epoch), "loss": _number(loss)}
    return {**shown, "data": data}  # type: ignore[typeddict-item,return-value]


def _number(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: str) -> str:
    return value.replace("\x00", "\ufffd").encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _value(value: object) -> object:
    """Return ``value`` as JSON that jsonb keeps: it has no NaN, no NUL, and no float that is not written as one."""
    if isinstance(value, Mapping):
        return {_text(str(key)): _value(item) for key, item in value.items()}
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return _number(value) if math.isfinite(value) else str(value)
    if isinstance(value, Sequence | set | frozenset):
        return [_value(item) for item in value]
    return _text(str(value))


def _sorted(data: Mapping[str, object]) -> dict[str, object]:
    """Return ``data`` with its keys in order at every depth; jsonb has an order of its own."""
    return {key: _in_order(data[key]) for key in sorted(data)}


def _in_order(value: object) -> object:
    if isinstance(value, Mapping):
        return _sorted(value)
    return [_in_order(item) for item in value] if isinstance(value, list) else value
