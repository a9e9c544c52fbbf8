"""What a running agent may ask of the platform, and the shape of a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class AgentContext(Protocol):
    """The frozen surroundings of one attempt of one node. The real one speaks to the supervisor over a socket;
    ``celery_workers.contract.testing.RecordingContext`` is the one for tests."""

    workdir: Path
    """An empty folder of this attempt's own. Outputs are written below it."""
    run_id: str
    node: str
    attempt: int
    seed: int
    """Seed of this node, 0 to 2**32 - 1; the same for every attempt."""
    memory_failures: int
    """How many earlier attempts of this node ran out of memory, killed for it or not: use less than they did."""
    resume_from: Path | None
    """A folder that an earlier attempt gave to ``checkpoint``, verified against its sha256; None starts afresh."""

    def reference(self, value: str) -> Path:
        """Return the local file or folder that a config reference (``base_model``, ``file_path``) or an input's
        ``base_model`` metadata stands for.

        Raises: UserInputError: nothing was resolved for ``value``.
        """

    def log(self, message: str, *, level: LogLevel = "INFO", **data: object) -> None:
        """Write one log line; ``data`` is small JSON."""

    def metric(self, message: str, *, step: int, epoch: float | None = None, loss: float | None = None, **data: float) -> None:
        """Record numbers at a training step; each keyword becomes a curve. Units go in the names."""

    def progress(self, fraction: float, *, step: int | None = None, total_steps: int | None = None) -> None:
        """Say how far the node is, 0 to 1."""

    def checkpoint(self, path: Path, *, step: int, keep: int = 2) -> None:
        """Hand over a complete checkpoint folder; returns when the platform has stored it.

        The platform keeps the node's ``keep`` newest, at least 1.
        """

    def check_canceled(self) -> None:
        """Raise ``Canceled`` if the node must stop. Call once per batch or row block."""

    @property
    def is_stopping(self) -> bool:
        """Whether the node must stop; for loops that save a checkpoint before they call ``check_canceled``."""


class Table(BaseModel):
    """A table of a report. Cells are strings, numbers, booleans or null."""

    model_config = ConfigDict(extra="forbid")
    title: str
    columns: list[str]
    rows: list[list[str | int | float | bool | None]]


class Figure(BaseModel):
    """A drawing of a report. ``line`` and ``histogram`` have x and y of equal length; ``bar`` has labels in x.

    ``low`` and ``high`` are the ends of intervals around y, where there are any.
    """

    model_config = ConfigDict(extra="forbid")
    title: str
    type: Literal["line", "bar", "histogram"]
    x_label: str
    y_label: str
    series: list[Series]


class Series(BaseModel):
    """One line or set of bars of a Figure."""

    model_config = ConfigDict(extra="forbid")
    name: str
    x: list[float | str]
    y: list[float | None]
    low: list[float] | None = None
    high: list[float] | None = None


class ReportDocument(BaseModel):
    """The shape of every ``report.json``. ``summary`` holds the few numbers shown on the node, units in their names."""

    model_config = ConfigDict(extra="forbid")
    kind: str
    title: str
    summary: dict[str, str | int | float | bool | None]
    verdict: str = ""
    tables: list[Table] = Field(default_factory=list)
    figures: list[Figure] = Field(default_factory=list)
    samples: list[dict[str, object]] = Field(default_factory=list)
    data: dict[str, object] = Field(default_factory=dict)

    def write(self, path: Path) -> Mapping[str, object]:
        """Write to ``path`` and return the metadata of the report port.

        Raises: OSError: the file cannot be written.
        """
        path.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        return {"title": self.title, "report_kind": self.kind, "summary": self.summary, "verdict": self.verdict}


Figure.model_rebuild()
