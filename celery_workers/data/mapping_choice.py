"""Choose what rows are: the parts of a row format, and the source column of each.

    choice = Choice(columns={"prompt": "frage", "completion": "antwort"}, row_format=RowFormat.PROMPT_COMPLETION)
    looked_at = look_at_choice(source, file_format, choice)    # the first rows, as they would be kept
    write_chosen(source, target, file_format, choice)          # all rows under the names of the parts, as JSON Lines

Only what was chosen counts: a column that has the name of a part but is not chosen for one is renamed (``source_`` goes
before), so that whoever reads the new file finds the chosen format by itself. Row numbers stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from celery_workers.contract.errors import UserInputError
from celery_workers.data.canonical import CanonicalRow, Value, to_canonical
from celery_workers.data.chat_messages import to_messages
from celery_workers.data.checks import check_row
from celery_workers.data.column_mapping import write_row
from celery_workers.data.formats import FileFormat, read_rows
from celery_workers.data.importing import Columns
from celery_workers.data.plain import plain
from celery_workers.data.row_formats import Detected, RowFormat, detect_row_format
from celery_workers.data.rows import RowProblem, SourceFile, SourceRow
from celery_workers.data.spellings import ALIASES, PARTS, SPELLINGS

LOOKED_AT_ROWS = 200
SHOWN_CHARACTERS = 2000
_KNOWN_NAMES = frozenset(name for names in ALIASES.values() for name in names)


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One way of writing a row that can be chosen: its parts, and the format that rows are then kept as."""

    name: str
    format: RowFormat
    required: tuple[str, ...]
    optional: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The source column of each part, and the format that must come of it."""

    columns: Mapping[str, str]
    row_format: RowFormat


@dataclass(frozen=True, kw_only=True)
class ShownRow:
    """A row as it would be kept: ``messages`` of role and content; ``problems`` as a report would name them."""

    number: int
    messages: list[dict[str, object]]
    problems: list[RowProblem]


@dataclass(frozen=True, kw_only=True)
class LookedAt:
    """The columns of a file's first rows, and some of these rows as they are and as they would be kept.

    ``detected`` is None, and ``refusal`` says why, where the rows are of no format.
    """

    columns: list[dict[str, str]]
    raw: list[dict[str, object]]
    detected: Detected | None = None
    refusal: UserInputError | None = None
    rows: list[ShownRow] = field(default_factory=list)


def offers() -> list[Offer]:
    """Return what can be chosen, once for each set of parts."""
    found: dict[tuple[RowFormat, tuple[str, ...]], Offer] = {}
    for spelling in SPELLINGS:
        offer = Offer(name=spelling.name, format=spelling.format, required=spelling.required, optional=spelling.optional)
        found.setdefault((spelling.format, spelling.required), offer)
    return list(found.values())


def look(source: SourceFile, file_format: FileFormat, *, shown_rows: int) -> LookedAt:
    """Look at the first rows, and find what they are by themselves.

    Raises: UserInputError: the file cannot be read.
    """
    rows, columns = _first_rows(source, file_format)
    try:
        detected = detect_row_format(columns.names, rows=[row.values for row in rows if row.values])
    except UserInputError as refusal:
        return LookedAt(columns=columns.as_json(), raw=_raw(rows[:shown_rows]), refusal=refusal)
    shown = _shown(rows[:shown_rows], detected)
    return LookedAt(columns=columns.as_json(), raw=_raw(rows[:shown_rows]), detected=detected, rows=shown)


def look_at_choice(source: SourceFile, file_format: FileFormat, choice: Choice, *, shown_rows: int) -> LookedAt:
    """Return the first rows as ``choice`` would have them kept.

    Raises: UserInputError: the file cannot be read, or the choice does not fit its columns or values.
    """
    rows, columns = _first_rows(source, file_format)
    names = _new_names(columns.names, choice)
    renamed = [_renamed(row, names) for row in rows]
    detected = _settle(renamed, names, choice)
    shown = _shown(renamed[:shown_rows], detected)
    return LookedAt(columns=columns.as_json(), raw=_raw(rows[:shown_rows]), detected=detected, rows=shown)


def write_chosen(source: SourceFile, target: Path, file_format: FileFormat, choice: Choice) -> None:
    """Write the rows of ``source`` to ``target`` as JSON Lines, under the names of the parts.

    A row that cannot be read stays one, its line says why. Columns beyond the choice are kept.

    Raises: UserInputError: the file cannot be read, or the choice does not fit its columns or values.
    """
    rows, columns = _first_rows(source, file_format)
    names = _new_names(columns.names, choice)
    _settle([_renamed(row, names) for row in rows], names, choice)
    line = 0
    with target.open("wb") as output:
        for batch in read_rows(source, file_format):
            for row in batch.rows:
                output.write(b"\n" * (row.number - line - 1))
                write_row(output, _renamed(row, names))
                line = row.number


def as_messages(values: Mapping[str, Value], row_format: RowFormat) -> list[dict[str, object]]:
    """Return what a row says as messages; the two answers of a preference have roles of their own, as has text."""
    if row_format is RowFormat.TEXT:
        return [{"role": "text", "content": values.get("text") or ""}]
    if row_format not in (RowFormat.PREFERENCE, RowFormat.KTO):
        return [dict(message) for message in to_messages(values, row_format)]
    answers = ("chosen", "rejected") if row_format is RowFormat.PREFERENCE else ("completion",)
    said = [*_said(values.get("prompt"))]
    for answer in answers:
        role = answer if row_format is RowFormat.PREFERENCE else "wanted" if values.get("label") else "unwanted"
        said += [{**message, "role": role} for message in _said(values.get(answer))]
    return said


def _said(value: Value) -> list[dict[str, object]]:
    return [dict(message) for message in value] if isinstance(value, list) else []


def _first_rows(source: SourceFile, file_format: FileFormat) -> tuple[list[SourceRow], Columns]:
    columns = Columns(source)
    batches = read_rows(source, file_format)
    rows: list[SourceRow] = []
    for batch in batches:
        columns.add(batch.rows)
        rows += batch.rows
        if len(rows) >= LOOKED_AT_ROWS:
            break
    if not rows:
        raise source.error("the file has no rows", code="no_rows")
    return rows[:LOOKED_AT_ROWS], columns


def _new_names(columns: Sequence[str], choice: Choice) -> dict[str, str]:
    """Return the new name of each column.

    Raises: UserInputError: a part is unknown, its column is not there, or has two parts to play.
    """
    for part, column in choice.columns.items():
        if part not in PARTS:
            raise _wrong(f"columns maps from one of {', '.join(sorted(PARTS))}, got {part!r}", "unknown_column")
        if column not in columns:
            known = ", ".join(repr(name) for name in islice(columns, 20))
            raise _wrong(f"columns maps {part} to {column!r}, which is not among {known}", "missing_column")
    parts = {column: part for part, column in choice.columns.items()}
    if len(parts) < len(choice.columns):
        raise _wrong("columns must map each part to a column of its own", "column_twice")
    names: dict[str, str] = {}
    for column in columns:
        names[column] = _free(parts.get(column, column), is_part=column in parts, taken=[*names.values(), *choice.columns])
    return names


def _free(name: str, *, is_part: bool, taken: Iterable[str]) -> str:
    """Return a name that no other column has, nor any part of a row."""
    used = set(taken)
    while not is_part and (name in used or name.strip().lower() in _KNOWN_NAMES):
        name = f"source_{name}"
    return name


def _renamed(row: SourceRow, names: dict[str, str]) -> SourceRow:
    """Return the row under new names; a column that turns up now gets one, too, which ``names`` then has."""
    if row.values is None:
        return row
    for column in row.values.keys() - names.keys():
        names[column] = _free(column, is_part=False, taken=names.values())
    return SourceRow(row.number, {names[column]: value for column, value in row.values.items()}, row.problem)


def _settle(renamed: Sequence[SourceRow], names: Mapping[str, str], choice: Choice) -> Detected:
    """Return what the renamed rows are.

    Raises: UserInputError: they are not of the chosen format.
    """
    values = [row.values for row in renamed if row.values]
    detected = detect_row_format(list(names.values()), rows=values)
    unused = sorted(choice.columns.keys() - detected.sources.keys())
    if detected.format is not choice.row_format or unused:
        is_other = detected.format is not choice.row_format
        found = f"are {detected.format.value}" if is_other else f"have no {' and no '.join(unused)}"
        message = (
            f"with these columns and their first values rows {found}, not {choice.row_format.value}: "
            "messages must be lists of objects, labels true or false"
        )
        raise _wrong(message, "other_row_format")
    return detected


def _wrong(message: str, code: str) -> UserInputError:
    return UserInputError(message, code=code, field="columns")


def _shown(rows: Sequence[SourceRow], detected: Detected) -> list[ShownRow]:
    shown = []
    for row in rows:
        canonical = to_canonical(row, detected)
        problems = check_row(canonical, detected.shape)
        shown.append(ShownRow(number=row.number, messages=_messages(canonical, detected), problems=problems))
    return shown


def _messages(row: CanonicalRow, detected: Detected) -> list[dict[str, object]]:
    messages = as_messages(row.values, detected.format)
    return [{**plain(message), "content": _cut(message.get("content"))} for message in messages]  # type: ignore[dict-item]


def _raw(rows: Sequence[SourceRow]) -> list[dict[str, object]]:
    return [
        {"row_number": row.number, "values": {name: _cut(plain(value)) for name, value in (row.values or {}).items()}}
        for row in rows
    ]


def _cut(value: object) -> object:
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        return f"{value[:SHOWN_CHARACTERS]}…"
    return value
