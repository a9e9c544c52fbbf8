"""From a file to canonical rows in one streaming pass: what an upload and the dataset agent have in common.

opened = open_rows(SourceFile(path=path, name="orders.csv"))
for rows, fraction in opened: ...      # lists of CanonicalRow
for block, fraction in opened.blocks(): ...   # or column by column, which is many times as fast
opened.columns                         # complete after the last of them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

from celery_workers.contract.errors import UserInputError
from celery_workers.data.blocks import Block, block_of
from celery_workers.data.canonical import CanonicalRow, to_canonical
from celery_workers.data.columns import Columns
from celery_workers.data.formats import FileFormat, detect_file_format, read_rows
from celery_workers.data.jsonl_blocks import can_read_blocks, read_blocks
from celery_workers.data.row_formats import Detected, RowFormat, detect_row_format
from celery_workers.data.rows import RowBatch, SourceFile

_LOOKED_AT_ROWS = 200
"""First rows whose values tell spellings with the same column names apart."""


class OpenedRows:
    """The rows of a file, whose format is known; iterate once."""

    def __init__(
        self,
        source: SourceFile,
        file_format: FileFormat,
        detected: Detected,
        columns: Columns,
        *,
        first: RowBatch,
        rest: Iterator[RowBatch],
    ) -> None:
        self.source = source
        self.file_format = file_format
        self.detected = detected
        self.columns = columns
        self._first = first
        self._rest = rest

    def __iter__(self) -> Iterator[tuple[list[CanonicalRow], float]]:
        """Yield (rows, fraction of the file read).

        Raises: UserInputError: the file cannot be read further, or has no rows at all.
        """
        rows = 0
        for batch in chain([self._first], self._rest):
            self.columns.add(batch.rows)
            rows += len(batch.rows)
            yield [to_canonical(row, self.detected) for row in batch.rows], batch.fraction
        if not rows:
            raise self.source.error("the file has no rows", code="no_rows")

    def blocks(self) -> Iterator[tuple[Block, float]]:
        """Yield the same rows column by column, and the fraction of the file read.

        Raises: UserInputError: as iterating over the rows.
        """
        rows = 0
        for block, fraction in self._read_blocks():
            rows += len(block)
            yield block, fraction
        if not rows:
            raise self.source.error("the file has no rows", code="no_rows")

    def _read_blocks(self) -> Iterator[tuple[Block, float]]:
        if self.file_format is FileFormat.JSONL and can_read_blocks(self.source, self.detected):
            yield from read_blocks(self.source, self.detected, self.columns, self._first.rows[:_LOOKED_AT_ROWS])
            return
        for rows, fraction in self:
            yield block_of(rows, self.detected.shape), fraction


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
    return OpenedRows(source, found, detected, columns, first=first, rest=batches)


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
