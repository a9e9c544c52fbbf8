"""Write and read the folder of a ``dataset`` artifact: ``rows.parquet`` in the canonical columns of its format.

Before validation the file has a further column ``problems``, with what reading each row brought up; such rows hold nulls
where a value could not be taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from celery_workers.contract.errors import BugError
from celery_workers.data.block_tables import block_from, schema_of, table_of
from celery_workers.data.blocks import Block, block_of
from celery_workers.data.canonical import PROBLEMS, ROW_NUMBER, CanonicalRow
from celery_workers.data.row_formats import Shape
from celery_workers.data.rows import BATCH_ROWS

FILE_NAME = "rows.parquet"


class DatasetWriter:
    """Write canonical rows to a new ``rows.parquet`` in ``folder``. Left by an exception, it leaves no file behind."""

    def __init__(self, folder: Path, shape: Shape, *, extras: Sequence[str] = (), has_problems: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE_NAME
        self.rows = 0
        self._shape = shape
        self._extras = list(extras)
        self._has_problems = has_problems
        self._open()

    def _open(self) -> None:
        self._schema = schema_of(self._shape, self._extras, has_problems=self._has_problems)
        self._writer = pq.ParquetWriter(self.path, self._schema, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.close()
        if error_type is not None:
            self.path.unlink(missing_ok=True)

    def write(self, rows: Sequence[CanonicalRow]) -> None:
        """Append ``rows``.

        Raises: BugError: a row has an extra column that was not announced.
        """
        self.write_block(block_of(rows, self._shape))

    def write_block(self, block: Block) -> None:
        """Append the rows of ``block``.

        Raises: BugError: it has an extra column that was not announced.
        """
        if unknown := sorted(block.extras.keys() - set(self._extras)):
            raise BugError(f"rows from number {block.numbers[0]} on have columns that were not announced: {unknown}")
        self.write_table(table_of(block, self._schema))

    def write_table(self, table: pa.Table) -> None:
        """Append the rows of ``table``, which has the columns of this file and perhaps others, which are left out."""
        if table.num_rows:
            self._writer.write_table(table.select(self._schema.names))
            self.rows += table.num_rows


class GrowingDatasetWriter(DatasetWriter):
    """Write rows whose extra columns are not known beforehand.

    Where one turns up after the first rows, what was written becomes a part of its own; at the end, the parts are joined.
    """

    def __init__(self, folder: Path, shape: Shape, *, has_problems: bool = False) -> None:
        self._parts: list[Path] = []
        super().__init__(folder, shape, has_problems=has_problems)

    def write_block(self, block: Block) -> None:
        """Append the rows of ``block``; extra columns that it brings are null in the rows before."""
        if new := [name for name in block.extras if name not in self._extras]:
            self._writer.close()
            if self.rows:
                self._parts.append(self.path.rename(self.path.with_suffix(f".{len(self._parts)}.part")))
            self._extras += new
            self._open()
        super().write_block(block)

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(error_type, error, traceback)
        if error_type is None and self._parts:
            self._join()
        for part in self._parts:
            part.unlink()

    def _join(self) -> None:
        self._parts.append(self.path.rename(self.path.with_suffix(".last.part")))
        with pq.ParquetWriter(self.path, self._schema, compression="zstd") as writer:
            for part in self._parts:
                with pq.ParquetFile(part) as file:
                    for index in range(file.num_row_groups):
                        writer.write_table(_with_columns(file.read_row_group(index, use_threads=False), self._schema))


class DatasetReader:
    """The rows of a dataset folder."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self._path = folder / FILE_NAME
        self._shape = shape
        try:
            with pq.ParquetFile(self._path) as file:
                self._names = file.schema_arrow.names
                self.rows = file.metadata.num_rows
        except (pa.ArrowException, FileNotFoundError) as error:
            raise BugError(f"{FILE_NAME} of the dataset cannot be read: {error}") from error
        absent = {ROW_NUMBER, *shape.required} - set(self._names)
        if absent:
            raise BugError(f"a dataset of format {shape.format.value} must have the columns {sorted(absent)}")

    @property
    def extras(self) -> list[str]:
        """Names of the columns beyond the format."""
        known = {ROW_NUMBER, PROBLEMS, *self._shape.columns}
        return [name for name in self._names if name not in known]

    def batches(self) -> Iterator[list[CanonicalRow]]:
        """Yield the rows in order, up to ``BATCH_ROWS`` at a time."""
        with pq.ParquetFile(self._path, memory_map=True) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
                block = block_from(pa.Table.from_batches([batch]), self._shape, extras=self.extras)
                yield [block.row(position) for position in range(len(block))]

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows in order, as many at a time as were written at once."""
        # Not mapped: the pages of a mapped file count as memory of the process, and so would grow with it.
        with pq.ParquetFile(self._path) as file:
            for index in range(file.num_row_groups):
                yield file.read_row_group(index, use_threads=False)


def _with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return ``table`` with the columns of ``schema``, null where it has none."""
    columns = [
        table.column(field.name) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
