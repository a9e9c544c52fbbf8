"""The ways in which an agent may fail; the kind decides whether the node is tried again."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class ErrorKind(StrEnum):
    """Whose fault it was. ``user`` is never retried."""

    USER = "user"
    RESOURCE = "resource"
    INFRASTRUCTURE = "infrastructure"
    BUG = "bug"


class AgentError(Exception):
    """A failure that says its rule, limit and value, and what to do about it.

    ``code`` is a stable snake_case name for scripts; ``field`` names the config field at fault, if one is;
    ``evidence`` is small JSON (row numbers, measured values) shown beside the message.
    """

    kind: ClassVar[ErrorKind] = ErrorKind.BUG
    default_code: ClassVar[str] = "bug"

    def __init__(
        self, message: str, *, code: str | None = None, field: str | None = None, evidence: dict[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.field = field
        self.evidence = evidence or {}


class UserInputError(AgentError):
    """The data, the config or the model that the user gave cannot be used. Never retried."""

    kind = ErrorKind.USER
    default_code = "invalid_input"


class ResourceError(AgentError):
    """Memory or disk ran out."""

    kind = ErrorKind.RESOURCE
    default_code = "out_of_resources"


class InfrastructureError(AgentError):
    """A worker, store, broker, database or hub could not be reached."""

    kind = ErrorKind.INFRASTRUCTURE
    default_code = "infrastructure"


class BugError(AgentError):
    """The program broke a promise of its own."""


class Canceled(Exception):
    """Raised by ``ctx.check_canceled()`` after the user canceled or the worker was told to stop."""
