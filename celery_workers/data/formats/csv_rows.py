"""Read CSV (comma, tab or semicolon) and TSV, with a header. A row's number does not count the header.

A field with a spreadsheet's formula is text like any other; the row gets a warning, as its result was probably meant.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator

from celery_workers.data.rows import (
    BATCH_CHARACTERS,
    BATCH_ROWS,
    MAX_COLUMNS,
    MAX_ROW_CHARACTERS,
    RowBatch,
    RowProblem,
    SourceFile,
    SourceRow,
    broken,
)
from celery_workers.data.text_stream import TextStream, open_text

DELIMITERS = (",", "\t", ";")
_FORMULA_STARTS = frozenset("=+-@")
_FORMULA = re.compile(r"[=@]\s*[A-Za-z][A-Za-z0-9.]*\(|=\s*\$?[A-Z]{1,3}\$?[0-9]|[=+\-@]\s*cmd\s*\|", re.IGNORECASE)

# The module's own limit of 131,072 characters a field is for the whole process and too small for documents.
csv.field_size_limit(MAX_ROW_CHARACTERS)


def read_csv(source: SourceFile) -> Iterator[RowBatch]:
    """Yield the rows of a CSV file; every value is text.

    Raises: UserInputError: the header is empty, repeats a name or has too many; a line is too long; a quote never closes.
    """
    yield from _read(source, delimiter=None)


def read_tsv(source: SourceFile) -> Iterator[RowBatch]:
    """Yield the rows of a file of tab-separated values.

    Raises: UserInputError: as ``read_csv``.
    """
    yield from _read(source, delimiter="\t")


def _read(source: SourceFile, *, delimiter: str | None) -> Iterator[RowBatch]:
    with open_text(source, newline="") as stream:
        lines = _Lines(source, stream)
        delimiter = delimiter or _sniff_delimiter(lines.peek())
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header = _read_header(source, reader)
        rows: list[SourceRow] = []
        for row in _rows(source, lines, reader, header):
            rows.append(row)
            if len(rows) >= BATCH_ROWS or lines.characters >= BATCH_CHARACTERS:
                yield RowBatch(rows, stream.fraction)
                rows, lines.characters = [], 0
        yield RowBatch(rows, 1.0)


class _Lines:
    """The lines that the csv module asks for, counted and of bounded length."""

    def __init__(self, source: SourceFile, stream: TextStream) -> None:
        self._source = source
        self._stream = stream
        self._ahead: str | None = None
        self.number = 0
        self.characters = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.peek()
        self._ahead = None
        if not line:
            raise StopIteration
        self.number += 1
        self.characters += len(line)
        return line

    def peek(self) -> str:
        """Return the next line without taking it; nothing at the end."""
        if self._ahead is None:
            self._ahead = self._stream.line(MAX_ROW_CHARACTERS)
            if len(self._ahead) >= MAX_ROW_CHARACTERS:
                message = f"a line must be shorter than {MAX_ROW_CHARACTERS} characters"
                raise self._source.error(message, code="row_too_long", line=self.number + 1)
        return self._ahead


def _sniff_delimiter(header: str) -> str:
    """Return the delimiter that cuts the header into most fields; comma where none does."""
    return max(DELIMITERS, key=lambda delimiter: len(next(csv.reader([header], delimiter=delimiter), [])))


def _read_header(source: SourceFile, reader: Iterator[list[str]]) -> list[str]:
    try:
        names = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise source.error(f"the header cannot be read: {error}", code="broken_header", line=1) from error
    if not any(names):
        raise source.error("the first line must be a header with the names of the columns", code="no_header", line=1)
    if len(names) > MAX_COLUMNS:
        raise source.error(f"must have at most {MAX_COLUMNS} columns, got {len(names)}", code="too_many_columns")
    names = [name or f"column_{position}" for position, name in enumerate(names, 1)]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise source.error("the header has this name more than once", code="duplicate_column", column=repeated[0])
    return names


def _rows(source: SourceFile, lines: _Lines, reader: Iterator[list[str]], header: list[str]) -> Iterator[SourceRow]:
    number = 0
    while True:
        first_line = lines.number + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            number += 1
            if lines.number > first_line:
                message = f"a quoted field that begins here never ends ({error} at line {lines.number})"
                raise source.error(message, code="unclosed_quote", row=number, line=first_line) from error
            yield broken(number, f"line {first_line}: {error}")
            continue
        if not fields:
            continue
        number += 1
        if len(fields) != len(header):
            message = f"line {first_line}: the header has {len(header)} fields, this row {len(fields)}"
            if len(fields) < len(header) and not lines.peek():
                message += "; it is the last: the file may end in mid-row"
            yield broken(number, message, code="ragged_row")
            continue
        yield SourceRow(number, dict(zip(header, fields, strict=True)), _find_formula(number, header, fields))


def _find_formula(number: int, header: list[str], fields: list[str]) -> RowProblem | None:
    for name, value in zip(header, fields, strict=True):
        if value[:1] in _FORMULA_STARTS and value and _FORMULA.match(value):
            message = f"{name} holds the formula {value[:60]!r}"
            return RowProblem(row_number=number, code="formula", field=name, message=message)
    return None
