"""From a file to canonical rows in one streaming pass: what an upload and the dataset agent have in common.

opened = open_rows(SourceFile(path=path, name="orders.csv"))
for rows, fraction in opened: ...      # lists of CanonicalRow
opened.columns                         # complete after the last batch
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from celery_workers.contract.errors import UserInputError
from celery_workers.data.canonical import CanonicalRow, to_canonical
from celery_workers.data.formats import FileFormat, detect_file_format, read_rows
from celery_workers.data.formats.json_values import type_name
from celery_workers.data.row_formats import Detected, RowFormat, detect_row_format
from celery_workers.data.rows import MAX_COLUMNS, RowBatch, SourceFile, SourceRow

_LOOKED_AT_ROWS = 200
"""First rows whose values tell spellings with the same column names apart."""

_REMEMBERED_KINDS = 256
"""Rows of the same columns and types as one of these add nothing to what is known of the columns."""


class Columns:
    """The columns seen so far, in the order of their first appearance, with the types of their values."""

    def __init__(self, source: SourceFile) -> None:
        self._source = source
        self._types: dict[str, set[type]] = {}
        self._seen: set[tuple[object, ...]] = set()

    def add(self, rows: list[SourceRow]) -> None:
        """Look at ``rows``.

        Raises: UserInputError: there are more than ``MAX_COLUMNS`` columns.
        """
        for row in rows:
            values = row.values
            if values is None:
                continue
            kinds = (*values, *map(type, values.values()))
            if kinds not in self._seen:
                self._add_row(values)
                self._seen.add(kinds)
        if len(self._types) > MAX_COLUMNS:
            message = f"must have at most {MAX_COLUMNS} columns, got {len(self._types)} up to here"
            raise self._source.error(message, code="too_many_columns", row=rows[-1].number)

    def _add_row(self, values: Mapping[str, object]) -> None:
        for name, value in values.items():
            self._types.setdefault(name, set()).add(type(value))
        if len(self._seen) >= _REMEMBERED_KINDS:
            self._seen.clear()

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self._types)

    def as_json(self) -> list[dict[str, str]]:
        """Return ``[{"name", "type"}]``; several types are joined by ``or``."""
        return [{"name": name, "type": " or ".join(sorted(map(_describe, types)))} for name, types in self._types.items()]


class OpenedRows:
    """The rows of a file, whose format is known; iterate once."""

    def __init__(
        self, source: SourceFile, file_format: FileFormat, detected: Detected, batches: Iterator[RowBatch], columns: Columns
    ) -> None:
        self.source = source
        self.file_format = file_format
        self.detected = detected
        self.columns = columns
        self._batches = batches

    def __iter__(self) -> Iterator[tuple[list[CanonicalRow], float]]:
        """Yield (rows, fraction of the file read).

        Raises: UserInputError: the file cannot be read further, or has no rows at all.
        """
        rows = 0
        for batch in self._batches:
            self.columns.add(batch.rows)
            rows += len(batch.rows)
            yield [to_canonical(row, self.detected) for row in batch.rows], batch.fraction
        if not rows:
            raise self.source.error("the file has no rows", code="no_rows")


def open_rows(
    source: SourceFile,
    *,
    file_format: FileFormat | None = None,
    row_format: RowFormat | None = None,
    mapping: Mapping[str, str] | None = None,
) -> OpenedRows:
    """Detect the file's format and, from its first batch, that of its rows.

    Raises: UserInputError: the file is empty or not what it should be, or no row format fits.
    """
    found = detect_file_format(source, file_format)
    batches = read_rows(source, found)
    first = next(batches, RowBatch([], 1.0))  # a Parquet file without rows has no batch
    columns = Columns(source)
    columns.add(first.rows)
    if not first.rows:
        raise source.error("the file has no rows", code="no_rows")
    if not columns.names:
        problem = first.rows[0].problem
        reason = problem.message if problem else "it has no columns"
        raise source.error(
            f"none of the first {len(first.rows)} rows can be read: {reason}", code="broken_file", row=first.rows[0].number
        )
    detected = _detect(source, columns, first, row_format, mapping)
    return OpenedRows(source, found, detected, _again(first, batches), columns)


def scan_columns(source: SourceFile, file_format: FileFormat) -> list[str]:
    """Return the names of all columns, reading the whole file where its format has no header.

    Raises: UserInputError: the file cannot be read.
    """
    columns = Columns(source)
    for batch in read_rows(source, file_format):
        columns.add(batch.rows)
        if file_format not in (FileFormat.JSON, FileFormat.JSONL) and columns.names:
            break
    return columns.names


def _detect(
    source: SourceFile,
    columns: Columns,
    first: RowBatch,
    row_format: RowFormat | None,
    mapping: Mapping[str, str] | None,
) -> Detected:
    rows = [row.values for row in first.rows[:_LOOKED_AT_ROWS] if row.values]
    try:
        return detect_row_format(columns.names, requested=row_format, mapping=mapping, rows=rows)
    except UserInputError as error:
        error.evidence["file"] = source.name
        raise


def _again(first: RowBatch, rest: Iterator[RowBatch]) -> Iterator[RowBatch]:
    yield first
    yield from rest


def _describe(kind: type) -> str:
    examples: dict[type, object] = {bool: True, int: 0, float: 0.0, str: "", list: [], dict: {}, type(None): None}
    return type_name(examples[kind]) if kind in examples else kind.__name__
