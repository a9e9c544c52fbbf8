"""What a reference turned out to be, and how it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from platform_site.common.errors import DomainError


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """The content that a reference stood for when its run began; kept in ``NodeRun.references``.

    ``digest`` identifies the content and goes into cache keys; ``source`` is what ``materialize`` needs to bring it.
    """

    kind: str
    digest: str
    source: dict[str, object] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return the form that is kept in the database."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Resolution:
        """Read the form that is kept in the database."""
        source = data["source"]
        return cls(
            kind=str(data["kind"]), digest=str(data["digest"]), source=dict(source) if isinstance(source, Mapping) else {}
        )


class UnresolvedReference(DomainError):
    """A reference names nothing that this user may use; the text says what, and what to do."""

    code = "unresolved_reference"
