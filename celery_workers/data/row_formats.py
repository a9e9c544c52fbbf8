"""Tell what a dataset's rows are by the names of its columns. A new format is one line in ``SHAPES``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from celery_workers.contract.errors import UserInputError


class RowFormat(StrEnum):
    """The shapes of a row that the platform trains on."""

    CHAT = "chat"
    ALPACA = "alpaca"
    PROMPT_COMPLETION = "prompt_completion"
    TEXT = "text"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The canonical columns of a format. ``answer`` is the one that a model learns to write."""

    format: RowFormat
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    answer: str

    @property
    def columns(self) -> tuple[str, ...]:
        """All canonical columns, in the order in which they are stored."""
        return (*self.required, *self.optional)


SHAPES: tuple[Shape, ...] = (
    Shape(format=RowFormat.CHAT, required=("messages",), answer="messages"),
    Shape(format=RowFormat.ALPACA, required=("instruction", "output"), optional=("input", "system"), answer="output"),
    Shape(format=RowFormat.PROMPT_COMPLETION, required=("prompt", "completion"), answer="completion"),
    Shape(format=RowFormat.TEXT, required=("text",), answer="text"),
)
"""In the order in which they are tried: the more a format asks for, the earlier."""

_KNOWN_COLUMNS = frozenset(column for shape in SHAPES for column in shape.columns)


@dataclass(frozen=True, kw_only=True)
class Detected:
    """The row format, the source column of each canonical one, and why."""

    shape: Shape
    sources: dict[str, str]
    reason: str

    @property
    def format(self) -> RowFormat:
        """The row format."""
        return self.shape.format


def shape_of(row_format: str) -> Shape:
    """Return the shape of a format by its name.

    Raises: UserInputError: there is none of that name.
    """
    for shape in SHAPES:
        if shape.format == row_format:
            return shape
    raise UserInputError(f"row format must be one of {', '.join(RowFormat)}, got {row_format!r}", code="unknown_row_format")


def detect_row_format(
    columns: Sequence[str], *, requested: RowFormat | None = None, mapping: Mapping[str, str] | None = None
) -> Detected:
    """Return the first format whose required columns are all there, or ``requested`` if its columns are.

    ``mapping`` names the source column of a canonical one (``{"prompt": "question"}``). Names are compared without case
    and outer white space.

    Raises: UserInputError: no format fits, or the mapping names a column that is not there.
    """
    found = _find_columns(columns, mapping or {})
    candidates = [shape_of(requested)] if requested else SHAPES
    fitting = [shape for shape in candidates if all(column in found for column in shape.required)]
    if not fitting:
        raise _no_format(columns, candidates, found)
    shape = fitting[0]
    sources = {column: found[column] for column in shape.columns if column in found}
    return Detected(shape=shape, sources=sources, reason=_reason(shape, sources, fitting[1:], is_requested=bool(requested)))


def _find_columns(columns: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Return the source column of every canonical column that is there."""
    found: dict[str, str] = {}
    for source in columns:
        canonical = source.strip().lower()
        if canonical in _KNOWN_COLUMNS and (canonical not in found or source == canonical):
            found[canonical] = source
    for canonical, source in mapping.items():
        if canonical not in _KNOWN_COLUMNS:
            known = ", ".join(sorted(_KNOWN_COLUMNS))
            raise UserInputError(f"columns maps from one of {known}, got {canonical!r}", code="unknown_column", field="columns")
        if source not in columns:
            message = f"columns maps {canonical} to {source!r}, which is not among {_listed(columns)}"
            raise UserInputError(message, code="missing_column", field="columns", evidence={"columns": list(columns)[:50]})
        found[canonical] = source
    return found


def _reason(shape: Shape, sources: Mapping[str, str], others: Sequence[Shape], *, is_requested: bool) -> str:
    pairs = [source if source == column else f"{source} (as {column})" for column, source in sources.items()]
    reason = f"{'Asked for' if is_requested else 'Found'} {shape.format.value}: columns {', '.join(pairs)}."
    if others:
        reason += f" Its columns would also fit {', '.join(other.format.value for other in others)}."
    return reason


def _no_format(columns: Sequence[str], candidates: Sequence[Shape], found: Mapping[str, str]) -> UserInputError:
    needs = "; ".join(f"{shape.format.value} needs {' and '.join(shape.required)}" for shape in candidates)
    missing = sorted({column for shape in candidates for column in shape.required if column not in found})
    return UserInputError(
        f"no row format fits the columns {_listed(columns)}: {needs}. Rename the columns, or map them with columns.",
        code="no_row_format",
        field="row_format",
        evidence={"columns": list(columns)[:50], "missing": missing},
    )


def _listed(columns: Sequence[str]) -> str:
    names = ", ".join(repr(column) for column in columns[:20])
    return f"{names} and {len(columns) - 20} more" if len(columns) > 20 else names
