"""The rules of the talk with one child, without any descriptor: what may be said when, and when the child must end."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from celery_workers.contract.errors import ErrorKind
from celery_workers.contract.messages import (
    Cancel,
    Checkpoint,
    Failure,
    FromChild,
    Log,
    Message,
    Metric,
    Progress,
    Ready,
    Result,
    Shutdown,
    from_child,
)

Said = Log | Metric | Progress | Checkpoint

START_SECONDS = 180.0  # to be ready: a first import of torch from a cold disk takes long
EXIT_SECONDS = 10.0  # to end after the answer, or after closing the socket
TERM_SECONDS = 1.0  # between SIGTERM and SIGKILL
NEVER = float("inf")


class OrderFlags(Protocol):
    """The part of ``Orders`` that is read here."""

    is_canceled: bool
    is_shut_down: bool
    is_abandoned: bool


class Dialogue:
    """Judges each payload and keeps the deadlines. ``now`` is always ``time.monotonic()``, in seconds.

    It fails closed: after a breach of the protocol nothing counts, not even an answer given before.
    """

    def __init__(self, *, workdir: Path, grace_seconds: float, now: float) -> None:
        self.is_ready = False
        self._workdir = workdir.resolve()
        self._grace_seconds = grace_seconds
        self._told: set[type[Message]] = set()
        self._term_at, self._kill_at = NEVER, now + START_SECONDS
        self._final: Result | Failure | None = None
        self._breach: Failure | None = None
        self._kill_reason: Failure | None = None

    @property
    def verdict(self) -> Result | Failure | None:
        """The answer so far; None leaves it to how the child has ended."""
        return self._breach or self._final or self._kill_reason

    @property
    def next_deadline(self) -> float:
        """When ``signal_due`` must be asked next."""
        return min(self._term_at, self._kill_at)

    def hear(self, payload: bytes, *, now: float) -> Said | None:
        """Judge one payload of the child, and return it if it is for the listener."""
        if self._breach is not None:
            return None
        try:
            message = from_child.validate_json(payload)
        except ValidationError as error:
            self.break_off(f"it sent what is no message: {error.errors(include_url=False)[0]['msg']}")
            return None
        objection = self._objection(message)
        if objection is not None:
            self.break_off(objection)
        elif isinstance(message, Ready):
            self.is_ready = True
            self._kill_at = self._kill_at if self._told else NEVER
        elif isinstance(message, Result | Failure):
            self._final = message
            self._kill_at = min(self._kill_at, now + EXIT_SECONDS)
        else:
            return message
        return None

    def break_off(self, detail: str) -> None:
        """Note a breach of the protocol; the child is killed."""
        if self._breach is None:
            message = f"The agent process broke the protocol: {detail}"
            self._breach = Failure(error_kind=ErrorKind.BUG, code="protocol", message=message)
            self._kill_at = -NEVER

    def note_socket_ended(self, *, now: float) -> None:
        """The child says nothing more; it must end soon."""
        self._kill_at = min(self._kill_at, now + EXIT_SECONDS)

    def obey(self, orders: OrderFlags, *, now: float) -> list[Message]:
        """Return what must be told to the child because of ``orders``, once each, and set the deadlines."""
        if orders.is_abandoned:
            self.abandon()
        wanted = ((orders.is_canceled, Cancel), (orders.is_shut_down, Shutdown))
        messages: list[Message] = [kind() for is_given, kind in wanted if is_given and kind not in self._told]
        if messages:
            self._told.update(type(message) for message in messages)
            self._term_at = min(self._term_at, now + self._grace_seconds)
            self._kill_at = min(self._kill_at, now + self._grace_seconds + TERM_SECONDS)
        return messages

    def abandon(self) -> None:
        """The attempt is nobody's any more: the child is killed."""
        if self._kill_reason is None:
            message = "The attempt was abandoned: its lease is lost, or its messages cannot be recorded."
            self._kill_reason = Failure(error_kind=ErrorKind.INFRASTRUCTURE, code="abandoned", message=message)
        self._kill_at = -NEVER

    def signal_due(self, *, now: float) -> signal.Signals | None:
        """Return the signal that the whole group must get now, if any; each is returned once."""
        if now >= self._kill_at:
            self._kill_reason = self._kill_reason or self._reason()
            self._term_at = self._kill_at = NEVER
            return signal.SIGKILL
        if now >= self._term_at:
            self._kill_reason = self._kill_reason or self._reason()
            self._term_at = NEVER
            return signal.SIGTERM
        return None

    def _objection(self, message: FromChild) -> str | None:
        if self._final is not None:
            return f"it sent {message.type!r} after its answer"
        if self.is_ready == isinstance(message, Ready):
            return "it sent 'ready' twice" if self.is_ready else f"it sent {message.type!r} before 'ready'"
        if isinstance(message, Checkpoint) and not self._is_inside(message.path):
            return f"its checkpoint lies outside its workdir: {message.path}"
        if isinstance(message, Result):
            paths = [value.path for values in message.outputs.values() for value in values]
            return next((f"its output lies outside its workdir: {path}" for path in paths if not self._is_inside(path)), None)
        return None

    def _is_inside(self, path: str) -> bool:
        resolved = Path(path).resolve()
        return resolved.is_relative_to(self._workdir) and resolved != self._workdir and resolved.exists()

    def _reason(self) -> Failure:
        if self._told:
            code = "canceled" if Cancel in self._told else "shutdown"
            message = f"It did not stop within {self._grace_seconds:g} s and was killed."
            return Failure(error_kind=None, code=code, message=message, evidence={"killed": True})
        if not self.is_ready:
            message = f"The agent process was not ready within {START_SECONDS:g} s."
            return Failure(error_kind=ErrorKind.INFRASTRUCTURE, code="child_not_started", message=message)
        message = "The agent process closed its socket without a result, and did not end."
        return Failure(error_kind=ErrorKind.BUG, code="no_result", message=message)
