"""Check one row: what makes it unfit to train on, and what its owner should know."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from celery_workers.data.canonical import CanonicalRow, texts
from celery_workers.data.conversation_checks import check_conversations
from celery_workers.data.mojibake import looks_like_mojibake
from celery_workers.data.row_formats import RowFormat, Shape
from celery_workers.data.rows import RowProblem, Severity
from celery_workers.data.text_stream import REPLACEMENT

CONTROL_CHARACTERS = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")
"""Invisible characters that no text means: C0 and C1 but tab and line ends, and a byte order mark inside."""

DEFAULT_MAX_CHARACTERS = 200_000


def check_row(row: CanonicalRow, shape: Shape, *, max_characters: int = DEFAULT_MAX_CHARACTERS) -> list[RowProblem]:
    """Return every problem of ``row``, those found when it was read first."""
    fields = list(texts(row.values, shape.format))
    return check_row_texts(row, shape, fields, characters=sum(len(text) for _, text in fields), max_characters=max_characters)


def check_row_texts(
    row: CanonicalRow, shape: Shape, fields: Iterable[tuple[str, str]], *, characters: int, max_characters: int
) -> list[RowProblem]:
    """Do as ``check_row`` where only the texts of ``fields`` can have a problem; ``characters`` are those of all texts."""
    if any(not problem.field for problem in row.problems):
        return row.problems  # the row could not be read: there is nothing else to check
    known = {problem.field for problem in row.problems if problem.severity is Severity.ERROR}
    found = [*_check_structure(row, shape), *_check_texts(row.number, fields)]
    if characters > max_characters:
        message = f"the row has {characters} characters, more than {max_characters}"
        found.append(RowProblem(row_number=row.number, code="too_long", field="row", message=message))
    return [*row.problems, *(problem for problem in found if problem.field not in known)]


def is_fit(problems: list[RowProblem]) -> bool:
    """Whether a row with these problems can be trained on."""
    return not any(problem.severity is Severity.ERROR for problem in problems)


def _check_structure(row: CanonicalRow, shape: Shape) -> Iterator[RowProblem]:
    if shape.conversations:
        yield from check_conversations(row.number, row.values, shape.format)
        return
    for column in shape.required:
        value = row.values[column]
        if value is None:
            yield RowProblem(row_number=row.number, code="missing_field", field=column, message=f"{column} is missing")
        elif isinstance(value, str) and not value.strip():
            code = "no_answer" if column == shape.answer and shape.format is not RowFormat.TEXT else "empty_field"
            yield RowProblem(row_number=row.number, code=code, field=column, message=f"{column} is empty")


def _check_texts(number: int, fields: Iterable[tuple[str, str]]) -> Iterator[RowProblem]:
    for field, text in fields:
        for code, message in text_problems(text):
            yield RowProblem(row_number=number, code=code, field=field, message=f"{field} {message}")


def text_problems(text: str) -> Iterator[tuple[str, str]]:
    """Yield (code, message) of what is wrong with the characters of ``text``."""
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
