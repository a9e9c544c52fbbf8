"""Bring rows to the canonical columns of their format. Nothing is converted by guess: a value of the wrong type becomes
null with a problem that says so, and columns beyond the format are kept as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from celery_workers.data.layouts import Value, lay_out
from celery_workers.data.message_reading import Message
from celery_workers.data.row_formats import Detected, RowFormat, shape_of
from celery_workers.data.rows import RowProblem, SourceRow

__all__ = [
    "PROBLEMS", "ROW_NUMBER", "CanonicalRow", "Message", "Value", "as_text", "extra_name", "messages_of", "texts",
    "to_canonical",
]  # fmt: skip

ROW_NUMBER = "row_number"
PROBLEMS = "problems"


@dataclass(slots=True)
class CanonicalRow:
    """A row in the columns of its format; ``problems`` are those that reading it brought up."""

    number: int
    values: dict[str, Value]
    extras: dict[str, str | None] = field(default_factory=dict)
    problems: list[RowProblem] = field(default_factory=list)


def to_canonical(row: SourceRow, detected: Detected) -> CanonicalRow:
    """Return ``row`` in canonical columns."""
    shape = detected.shape
    if row.values is None:
        return CanonicalRow(row.number, dict.fromkeys(shape.columns), {}, [row.problem] if row.problem else [])
    problems = [] if row.problem is None else [row.problem]
    values = lay_out(row, detected, problems)
    extras: dict[str, str | None] = {}
    read = detected.columns_read
    if not row.values.keys() <= read:
        extras = {extra_name(name, detected): as_text(value) for name, value in row.values.items() if name not in read}
    return CanonicalRow(row.number, values, extras, problems)


def extra_name(source: str, detected: Detected) -> str:
    """Return the name under which a column beyond the format is kept: its own, unless a canonical column has that."""
    return f"source_{source}" if source in (*detected.shape.columns, ROW_NUMBER, PROBLEMS) else source


def texts(values: Mapping[str, Value], row_format: RowFormat) -> list[tuple[str, str]]:
    """Return (field, text) of every text in a row; fields of messages are ``messages[2].content``."""
    found: list[tuple[str, str]] = []
    for column in shape_of(row_format).columns:
        value = values.get(column)
        if type(value) is str:
            found.append((column, value))
        elif type(value) is list:
            contents = [message["content"] for message in value]
            fields = zip(_content_fields(column, len(contents)), contents, strict=True)
            found += [(field, content) for field, content in fields if type(content) is str]
    return found


@lru_cache(maxsize=1024)
def _content_fields(column: str, count: int) -> tuple[str, ...]:
    return tuple(f"{column}[{position}].content" for position in range(count))


def messages_of(values: Mapping[str, Value]) -> list[Message] | None:
    """Return the messages of a chat row."""
    messages = values["messages"]
    return messages if isinstance(messages, list) else None


def as_text(value: object) -> str | None:
    """Return the value of a column beyond the format as the text that is kept of it."""
    if value is None or isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)
