"""Bring rows to the canonical columns of their format. Nothing is converted by guess: a value of the wrong type becomes
null with a problem that says so, and columns beyond the format are kept as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from celery_workers.data.formats.json_values import type_name
from celery_workers.data.row_formats import Detected, RowFormat
from celery_workers.data.rows import RowProblem, SourceRow

ROW_NUMBER = "row_number"
PROBLEMS = "problems"

Message = dict[str, str | None]
Value = str | list[Message] | None


@dataclass(frozen=True, slots=True)
class CanonicalRow:
    """A row in the columns of its format; ``problems`` are those that reading it brought up."""

    number: int
    values: dict[str, Value]
    extras: dict[str, str | None] = field(default_factory=dict)
    problems: list[RowProblem] = field(default_factory=list)


def to_canonical(row: SourceRow, detected: Detected) -> CanonicalRow:
    """Return ``row`` in canonical columns."""
    columns = detected.shape.columns
    if row.values is None:
        problems = [row.problem] if row.problem else []
        return CanonicalRow(row.number, dict.fromkeys(columns), {}, problems)
    problems = []
    values: dict[str, Value] = {}
    for column in columns:
        value = row.values.get(detected.sources.get(column, column))
        values[column] = (
            _messages(row.number, value, problems) if column == "messages" else _text(row.number, column, value, problems)
        )
    used = {detected.sources.get(column, column) for column in columns}
    extras = {extra_name(name, detected): _as_text(value) for name, value in row.values.items() if name not in used}
    return CanonicalRow(row.number, values, extras, problems)


def extra_name(source: str, detected: Detected) -> str:
    """Return the name under which a column beyond the format is kept: its own, unless a canonical column has that."""
    return f"source_{source}" if source in (*detected.shape.columns, ROW_NUMBER, PROBLEMS) else source


def texts(values: Mapping[str, Value], row_format: RowFormat) -> Iterator[tuple[str, str]]:
    """Yield (field, text) of every text in a row; fields of messages are ``messages[2].content``."""
    if row_format is not RowFormat.CHAT:
        yield from ((column, value) for column, value in values.items() if isinstance(value, str))
        return
    for position, message in enumerate(messages_of(values) or []):
        content = message["content"]
        if content is not None:
            yield f"messages[{position}].content", content


def messages_of(values: Mapping[str, Value]) -> list[Message] | None:
    """Return the messages of a chat row."""
    messages = values["messages"]
    return messages if isinstance(messages, list) else None


def _text(number: int, column: str, value: object, problems: list[RowProblem]) -> str | None:
    if value is None or isinstance(value, str):
        return value
    fix = f"Write it as text: {json.dumps(str(value))}." if isinstance(value, int | float) else ""
    message = f"{column} must be text, got {type_name(value)}"
    problems.append(RowProblem(row_number=number, code="wrong_type", field=column, message=message, fix=fix))
    return None


def _messages(number: int, value: object, problems: list[RowProblem]) -> list[Message] | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value)  # CSV has no lists, so a conversation stands there as JSON
        except (ValueError, RecursionError):
            value = "text that is not JSON"
    if not isinstance(value, list):
        got = value if value == "text that is not JSON" else type_name(value)
        message = f"messages must be a list of objects with role and content, got {got}"
        problems.append(RowProblem(row_number=number, code="wrong_type", field="messages", message=message))
        return None
    return [_message(number, position, item, problems) for position, item in enumerate(value)]


def _message(number: int, position: int, value: object, problems: list[RowProblem]) -> Message:
    place = f"messages[{position}]"
    if not isinstance(value, dict):
        message = f"{place} must be an object with role and content, got {type_name(value)}"
        problems.append(RowProblem(row_number=number, code="wrong_type", field=place, message=message))
        return {"role": None, "content": None}
    unused = sorted(str(key) for key, item in value.items() if key not in ("role", "content") and item is not None)
    if unused:
        message = f"{place} has {', '.join(unused[:10])}, which is not trained on"
        problems.append(RowProblem(row_number=number, code="unused_key", field=place, message=message))
    return {
        "role": _text(number, f"{place}.role", value.get("role"), problems),
        "content": _text(number, f"{place}.content", value.get("content"), problems),
    }


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
