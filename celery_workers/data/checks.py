"""Check one row: what makes it unfit to train on, and what its owner should know."""

from __future__ import annotations

import re
from collections.abc import Iterator

from celery_workers.data.canonical import CanonicalRow, Message, messages_of, texts
from celery_workers.data.mojibake import looks_like_mojibake
from celery_workers.data.row_formats import RowFormat, Shape
from celery_workers.data.rows import RowProblem, Severity
from celery_workers.data.text_stream import REPLACEMENT

CONTROL_CHARACTERS = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")
"""Invisible characters that no text means: C0 and C1 but tab and line ends, and a byte order mark inside."""

DEFAULT_MAX_CHARACTERS = 200_000
_ROLES = ("system", "user", "assistant")


def check_row(row: CanonicalRow, shape: Shape, *, max_characters: int = DEFAULT_MAX_CHARACTERS) -> list[RowProblem]:
    """Return every problem of ``row``, those found when it was read first."""
    if any(not problem.field for problem in row.problems):
        return row.problems  # the row could not be read: there is nothing else to check
    known = {problem.field for problem in row.problems}
    found = [*_check_structure(row, shape), *_check_texts(row, shape, max_characters)]
    return [*row.problems, *(problem for problem in found if problem.field not in known)]


def is_fit(problems: list[RowProblem]) -> bool:
    """Whether a row with these problems can be trained on."""
    return not any(problem.severity is Severity.ERROR for problem in problems)


def _check_structure(row: CanonicalRow, shape: Shape) -> Iterator[RowProblem]:
    if shape.format is RowFormat.CHAT:
        yield from _check_messages(row)
        return
    for column in shape.required:
        value = row.values[column]
        if value is None:
            yield RowProblem(row_number=row.number, code="missing_field", field=column, message=f"{column} is missing")
        elif isinstance(value, str) and not value.strip():
            code = "no_answer" if column == shape.answer and shape.format is not RowFormat.TEXT else "empty_field"
            yield RowProblem(row_number=row.number, code=code, field=column, message=f"{column} is empty")


def _check_messages(row: CanonicalRow) -> Iterator[RowProblem]:
    messages = messages_of(row.values)
    if messages is None:
        yield RowProblem(row_number=row.number, code="missing_field", field="messages", message="messages is missing")
        return
    if not any(message["role"] == "assistant" for message in messages):
        reason = "the conversation has no message of the assistant"
        yield RowProblem(row_number=row.number, code="no_answer", field="messages", message=reason)
        return
    yield from _check_roles(row.number, messages)
    for position, message in enumerate(messages):
        yield from _check_content(row.number, position, message)
    if messages[-1]["role"] in ("user", "system"):
        reason = f"the conversation ends with the {messages[-1]['role']}, so its last message has no answer"
        yield RowProblem(row_number=row.number, code="no_answer", field="messages", message=reason)


def _check_roles(number: int, messages: list[Message]) -> Iterator[RowProblem]:
    expected = "user"
    for position, message in enumerate(messages):
        role, field = message["role"], f"messages[{position}].role"
        if role is None:
            yield RowProblem(row_number=number, code="missing_field", field=field, message=f"{field} is missing")
            return
        if role not in _ROLES:
            text = f"{field} must be one of {', '.join(_ROLES)}, got {role[:40]!r}"
            yield RowProblem(row_number=number, code="role_order", field=field, message=text)
            return
        if role == "system" and position == 0:
            continue
        if role != expected:
            text = f"{field} must be {expected}, got {role}"
            yield RowProblem(row_number=number, code="role_order", field=field, message=text)
            return
        expected = "assistant" if role == "user" else "user"


def _check_content(number: int, position: int, message: Message) -> Iterator[RowProblem]:
    field, content = f"messages[{position}].content", message["content"]
    if content is None:
        yield RowProblem(row_number=number, code="missing_field", field=field, message=f"{field} is missing")
    elif not content.strip() and message["role"] != "system":
        code = "no_answer" if message["role"] == "assistant" else "empty_field"
        yield RowProblem(row_number=number, code=code, field=field, message=f"{field} is empty")


def _check_texts(row: CanonicalRow, shape: Shape, max_characters: int) -> Iterator[RowProblem]:
    characters = 0
    for field, text in texts(row.values, shape.format):
        characters += len(text)
        for code, message in _text_problems(text):
            yield RowProblem(row_number=row.number, code=code, field=field, message=f"{field} {message}")
    if characters > max_characters:
        message = f"the row has {characters} characters, more than {max_characters}"
        yield RowProblem(row_number=row.number, code="too_long", field="row", message=message)


def _text_problems(text: str) -> Iterator[tuple[str, str]]:
    if "\0" in text:
        yield "nul_character", f"holds {text.count(chr(0))} NUL characters, the first at character {text.index(chr(0)) + 1}"
    if control := CONTROL_CHARACTERS.search(text):
        yield "control_characters", f"holds the invisible character U+{ord(control[0]):04X} at character {control.start() + 1}"
    if text.isascii():
        return
    if REPLACEMENT in text:
        place = text.index(REPLACEMENT) + 1
        yield "encoding_damage", f"holds {text.count(REPLACEMENT)} lost characters (U+FFFD), the first at character {place}"
    elif looks_like_mojibake(text):
        yield "mojibake", "looks as if it had been decoded with the wrong encoding"
