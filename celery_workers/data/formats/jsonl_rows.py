"""Read JSON Lines: one object a line. A row's number is its line's, as editors count them; blank lines are passed over."""

from __future__ import annotations

from collections.abc import Iterator

from celery_workers.data.formats.json_values import BrokenValueError, decode_row
from celery_workers.data.rows import (
    BATCH_CHARACTERS,
    BATCH_ROWS,
    MAX_ROW_CHARACTERS,
    RowBatch,
    SourceFile,
    SourceRow,
    broken,
)
from celery_workers.data.text_stream import TextStream, open_text


def read_jsonl(source: SourceFile) -> Iterator[RowBatch]:
    """Yield the rows of a JSON Lines file; a line that cannot be read is a broken row, and reading goes on."""
    with open_text(source) as stream:
        rows: list[SourceRow] = []
        characters = number = 0
        while line := stream.line(MAX_ROW_CHARACTERS):
            number += 1
            characters += len(line)
            if row := _row(number, line, stream):
                rows.append(row)
            if len(rows) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
                yield RowBatch(rows, stream.fraction)
                rows, characters = [], 0
        yield RowBatch(rows, 1.0)


def _row(number: int, line: str, stream: TextStream) -> SourceRow | None:
    if len(line) >= MAX_ROW_CHARACTERS:
        length = len(line) + (0 if line.endswith("\n") else stream.skip_line())
        message = f"a line must be shorter than {MAX_ROW_CHARACTERS} characters, got {length}"
        return broken(number, message, code="row_too_long")
    if line.isspace():
        return None
    try:
        return SourceRow(number, decode_row(line.rstrip("\n")))
    except BrokenValueError as error:
        ends_in_row = "" if line.endswith("\n") else "; the file may end in mid-row"
        return broken(number, f"is not a JSON object: {error}{ends_in_row}")
