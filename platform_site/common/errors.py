"""Errors that a service raises and that every endpoint answers in one shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong: where (node, field), a stable code, and what to do."""

    message: str
    code: str = "invalid"
    node: str | None = None
    field: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """Return the entry of ``errors`` in a REST answer."""
        return asdict(self)


class DomainError(Exception):
    """A rule of the domain that a request broke. ``code`` and ``status`` go into the answer."""

    code: ClassVar[str] = "invalid"
    status: ClassVar[int] = 400

    def __init__(self, detail: str, *, errors: Sequence[Problem] = (), code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = list(errors)
        self.error_code = code or self.code


class InvalidInput(DomainError):
    """A value breaks a rule; ``errors`` says which and where."""

    code = "invalid_input"


class InvalidGraph(DomainError):
    """The graph cannot run: cycle, unknown agent, wrong type of edge, bad config, missing data or model."""

    code = "invalid_graph"


class InvalidFile(DomainError):
    """An uploaded file cannot be read as what it says it is."""

    code = "invalid_file"


class Conflict(DomainError):
    """The request was right, but the row has moved on or the name is taken."""

    code = "conflict"
    status = 409


class TooLarge(DomainError):
    """Over a limit that the message names."""

    code = "too_large"
    status = 413


class StorageFull(DomainError):
    """No room on the disk or in the object store."""

    code = "storage_full"
    status = 507


class Unavailable(DomainError):
    """A service that this request needs cannot be reached."""

    code = "unavailable"
    status = 503
