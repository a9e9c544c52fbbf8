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
from celery_workers.data.canonical import PROBLEMS, ROW_NUMBER, CanonicalRow
from celery_workers.data.message_reading import TEXT_KEYS
from celery_workers.data.row_formats import Shape
from celery_workers.data.rows import BATCH_ROWS, RowProblem

FILE_NAME = "rows.parquet"

_MESSAGES = pa.list_(pa.struct([*((name, pa.string()) for name in TEXT_KEYS), ("train", pa.bool_())]))
_PROBLEMS = pa.list_(pa.struct([(name, pa.string()) for name in ("field", "code", "message", "fix")]))


class DatasetWriter:
    """Write canonical rows to a new ``rows.parquet`` in ``folder``. Left by an exception, it leaves no file behind."""

    def __init__(self, folder: Path, shape: Shape, *, extras: Sequence[str] = (), has_problems: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE_NAME
        self.rows = 0
        self._extras = list(extras)
        self._has_problems = has_problems
        self._schema = _schema(shape, extras, has_problems=has_problems)
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
        if not rows:
            return
        for row in rows:
            if unknown := row.extras.keys() - set(self._extras):
                raise BugError(f"row {row.number} has columns that were not announced: {sorted(unknown)}")
        records = [self._record(row) for row in rows]
        self._writer.write_table(pa.Table.from_pylist(records, schema=self._schema))
        self.rows += len(rows)

    def _record(self, row: CanonicalRow) -> dict[str, object]:
        record: dict[str, object] = {ROW_NUMBER: row.number, **row.values, **row.extras}
        if self._has_problems:
            record[PROBLEMS] = [
                {"field": problem.field, "code": problem.code, "message": problem.message, "fix": problem.fix}
                for problem in row.problems
            ]
        return record


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
                yield [self._row(record) for record in batch.to_pylist()]

    def _row(self, record: dict[str, object]) -> CanonicalRow:
        number = record[ROW_NUMBER]
        problems = [RowProblem(row_number=number, **problem) for problem in record.get(PROBLEMS) or []]
        values = {column: record.get(column) for column in self._shape.columns}
        for column in self._shape.conversations:
            values[column] = _without_nulls(values[column])
        return CanonicalRow(number, values, {name: record[name] for name in self.extras}, problems)


def _schema(shape: Shape, extras: Sequence[str], *, has_problems: bool) -> pa.Schema:
    fields = [(ROW_NUMBER, pa.int64()), *((column, _type(shape, column)) for column in shape.columns)]
    fields += [(name, pa.string()) for name in extras]
    return pa.schema([*fields, (PROBLEMS, _PROBLEMS)] if has_problems else fields)


def _type(shape: Shape, column: str) -> pa.DataType:
    if column in shape.conversations:
        return _MESSAGES
    return pa.bool_() if column in shape.flags else pa.string()


def _without_nulls(messages: list[dict[str, object]] | None) -> list[dict[str, object]] | None:
    """Return messages without the keys that say nothing; role and content stay."""
    if messages is None:
        return None
    return [
        {key: value for key, value in message.items() if value is not None or key in ("role", "content")}
        for message in messages
    ]
