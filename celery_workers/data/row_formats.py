"""Tell what a dataset's rows are by the names of its columns and, where names can mean two things, by their first values.

The spellings in which files come are in ``spellings``; here are the shapes to which all of them are brought.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from celery_workers.contract.errors import UserInputError

if TYPE_CHECKING:
    from celery_workers.data.spellings import Spelling


class RowFormat(StrEnum):
    """The shapes of a row that the platform knows."""

    CHAT = "chat"
    ALPACA = "alpaca"
    PROMPT_COMPLETION = "prompt_completion"
    PREFERENCE = "preference"
    KTO = "kto"
    TEXT = "text"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The canonical columns of a format. ``answer`` is the one that a model learns to write.

    ``conversations`` are the columns that hold messages, ``flags`` those that are true or false; all others are text.
    """

    format: RowFormat
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    answer: str
    conversations: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All canonical columns, in the order in which they are stored."""
        return (*self.required, *self.optional)


SHAPES: tuple[Shape, ...] = (
    Shape(format=RowFormat.CHAT, required=("messages",), optional=("tools",), answer="messages", conversations=("messages",)),
    Shape(format=RowFormat.ALPACA, required=("instruction", "output"), optional=("input", "system"), answer="output"),
    Shape(format=RowFormat.PROMPT_COMPLETION, required=("prompt", "completion"), answer="completion"),
    Shape(
        format=RowFormat.PREFERENCE,
        required=("prompt", "chosen", "rejected"),
        optional=("tools",),
        answer="chosen",
        conversations=("prompt", "chosen", "rejected"),
    ),
    Shape(
        format=RowFormat.KTO,
        required=("prompt", "completion", "label"),
        optional=("tools",),
        answer="completion",
        conversations=("prompt", "completion"),
        flags=("label",),
    ),
    Shape(format=RowFormat.TEXT, required=("text",), answer="text"),
)

_SHAPE_OF: dict[str, Shape] = {shape.format: shape for shape in SHAPES}


@dataclass(frozen=True, kw_only=True)
class Detected:
    """The row format, the source column of each part of a row, and why.

    ``spelling`` says how the parts become canonical columns; without one they are these columns already.
    """

    shape: Shape
    sources: dict[str, str]
    reason: str
    spelling: Spelling | None = None

    @property
    def format(self) -> RowFormat:
        """The row format."""
        return self.shape.format

    @cached_property
    def parts(self) -> dict[str, str]:
        """The source column of each part, of those too that may turn up further down in the file only."""
        parts = self.spelling.parts if self.spelling else self.shape.columns
        taken = set(self.sources.values())
        return {part: self.sources.get(part, part) for part in parts if part in self.sources or part not in taken}

    @cached_property
    def columns_read(self) -> frozenset[str]:
        """The source columns that rows are made of."""
        return frozenset(self.parts.values())


def shape_of(row_format: str) -> Shape:
    """Return the shape of a format by its name.

    Raises: UserInputError: there is none of that name.
    """
    if shape := _SHAPE_OF.get(row_format):
        return shape
    raise UserInputError(f"row format must be one of {', '.join(RowFormat)}, got {row_format!r}", code="unknown_row_format")


def detect_row_format(
    columns: Sequence[str],
    *,
    requested: RowFormat | None = None,
    mapping: Mapping[str, str] | None = None,
    rows: Sequence[Mapping[str, object]] = (),
) -> Detected:
    """Return the first spelling whose required columns are all there, of the format ``requested`` if one is.

    ``mapping`` names the source column of a part of a row (``{"prompt": "frage"}``); a part that it names counts under
    its own name only. Names are compared without case and outer white space. ``rows`` are the first rows: a spelling
    whose columns hold something else there is passed over.

    Raises: UserInputError: no format fits, or the mapping names a column that is not there.
    """
    from celery_workers.data.spellings import SPELLINGS

    mapping = mapping or {}
    _check_mapping(columns, mapping)
    fitting: list[tuple[Spelling, dict[str, str]]] = []
    for spelling in SPELLINGS:
        if requested is None or spelling.format is requested:
            found = spelling.find(columns, mapping, rows)
            if found is not None:
                fitting.append((spelling, found))
    if not fitting:
        raise _no_format(columns, requested)
    # One that uses every mapped part is what the mapping means.
    fitting.sort(key=lambda item: sum(part not in item[1] for part in mapping))
    spelling, sources = fitting[0]
    reason = _reason(columns, spelling, sources, [other for other, _ in fitting[1:]], is_requested=requested is not None)
    return Detected(shape=shape_of(spelling.format), sources=sources, reason=reason, spelling=spelling)


def _check_mapping(columns: Sequence[str], mapping: Mapping[str, str]) -> None:
    from celery_workers.data.spellings import PARTS

    for part, source in mapping.items():
        if part not in PARTS:
            known = ", ".join(sorted(PARTS))
            raise UserInputError(f"columns maps from one of {known}, got {part!r}", code="unknown_column", field="columns")
        if source not in columns:
            message = f"columns maps {part} to {source!r}, which is not among {_listed(columns)}"
            raise UserInputError(message, code="missing_column", field="columns", evidence={"columns": list(columns)[:50]})


def _reason(
    columns: Sequence[str], spelling: Spelling, sources: Mapping[str, str], others: Sequence[Spelling], *, is_requested: bool
) -> str:
    pairs = [source if source == part else f"{source} (as {part})" for part, source in sources.items()]
    made = f", kept as {spelling.format.value}" if spelling.name != spelling.format.value else ""
    reason = f"{'Asked for' if is_requested else 'Found'} {spelling.name}: columns {', '.join(pairs)}{made}."
    also = {other.format.value: None for other in others if other.format is not spelling.format}
    if also:
        reason += f" Its columns would also fit {', '.join(also)}."
    beside = [column for column in columns if column not in sources.values()]
    if beside:
        reason += f" Kept, but not trained on: {_listed(beside, limit=10)}."
    return reason


def _no_format(columns: Sequence[str], requested: RowFormat | None) -> UserInputError:
    candidates = [shape_of(requested)] if requested else SHAPES
    needs = "; ".join(f"{shape.format.value} needs {' and '.join(shape.required)}" for shape in candidates)
    present = {column.strip().lower() for column in columns}
    missing = sorted({column for shape in candidates for column in shape.required if column not in present})
    return UserInputError(
        f"no row format fits the columns {_listed(columns)}: {needs}. Rename the columns, or map them with columns.",
        code="no_row_format",
        field="row_format",
        evidence={"columns": list(columns)[:50], "missing": missing},
    )


def _listed(columns: Sequence[str], *, limit: int = 20) -> str:
    names = ", ".join(repr(column) for column in columns[:limit])
    return f"{names} and {len(columns) - limit} more" if len(columns) > limit else names
