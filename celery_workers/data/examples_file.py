"""Write and read ``examples.arrow``: token ids and labels in one memory-mapped file.

    with ExamplesWriter(folder) as writer:
        writer.append([1, 5, 9, 2], [-100, -100, 9, 2], row_number=17)

    table = open_examples(folder)
    table.input_ids(0)          # (L,) int32, a view of the mapped file
    table.supervised_counts     # (rows,) int32

The file is an uncompressed Arrow IPC file, so that a reader maps it instead of loading it and several processes share
its pages. Columns: ``input_ids`` list<int32>, ``labels`` list<int32>, ``row_number`` int64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from celery_workers.contract.errors import BugError

FILE_NAME = "examples.arrow"
IGNORED_LABEL = -100
"""Label of a token that is not trained on; what PyTorch's cross entropy ignores."""

SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32())), ("row_number", pa.int64())])
_ROWS_PER_BATCH = 1024

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]


class ExamplesWriter:
    """Append rows to a new ``examples.arrow`` in ``folder``. Left by an exception, it leaves no file behind."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE_NAME
        self.rows = 0
        self.tokens = 0
        self.supervised_tokens = 0
        self._waiting: list[tuple[Int32Array, Int32Array, int]] = []
        self._sink = pa.OSFile(str(self.path), "wb")
        self._writer = pa.ipc.new_file(self._sink, SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error_type is None:
            self._flush()
        self._writer.close()
        self._sink.close()
        if error_type is not None:
            self.path.unlink(missing_ok=True)

    def append(self, input_ids: Sequence[int] | Int32Array, labels: Sequence[int] | Int32Array, *, row_number: int) -> None:
        """Add one row: ``input_ids`` (L,) and ``labels`` (L,), ``IGNORED_LABEL`` where not trained on.

        Raises: BugError: the lengths differ, the row is empty, or its first token is supervised, which no model can
        predict.
        """
        ids, targets = np.asarray(input_ids, dtype=np.int32), np.asarray(labels, dtype=np.int32)
        if len(ids) != len(targets) or not len(ids):
            raise BugError(f"row {row_number}: input_ids and labels must be of one length > 0, got {len(ids)}, {len(targets)}")
        if targets[0] != IGNORED_LABEL:
            raise BugError(f"row {row_number}: the first token has nothing before it, so its label must be {IGNORED_LABEL}")
        self._waiting.append((ids, targets, row_number))
        self.rows += 1
        self.tokens += len(ids)
        self.supervised_tokens += int(np.count_nonzero(targets != IGNORED_LABEL))
        if len(self._waiting) >= _ROWS_PER_BATCH:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        ids, targets, numbers = zip(*self._waiting, strict=True)
        offsets = pa.array(np.cumsum([0, *map(len, ids)], dtype=np.int64).astype(np.int32))
        columns = [
            pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(ids))),
            pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(targets))),
            pa.array(numbers, type=pa.int64()),
        ]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
        self._waiting.clear()


@dataclass(frozen=True)
class _Batch:
    """One record batch as flat arrays; ``offsets`` (rows + 1,) cut ``ids`` and ``labels`` into rows."""

    offsets: Int32Array
    ids: Int32Array
    labels: Int32Array
    row_numbers: Int64Array


class ExamplesTable:
    """Rows of an examples file, by position from 0. Arrays are read-only views of the mapped file."""

    def __init__(self, path: Path) -> None:
        try:
            source = pa.memory_map(str(path))
            reader = pa.ipc.open_file(source)
        except (pa.ArrowInvalid, FileNotFoundError) as error:
            raise BugError(f"{path.name} is not an examples file: {error}") from error
        if not reader.schema.equals(SCHEMA):
            raise BugError(f"{path.name} must have columns {SCHEMA.names}, got {reader.schema.names}")
        self._batches = [_flatten(reader.get_batch(index)) for index in range(reader.num_record_batches)]
        self._starts = np.cumsum([0, *(len(batch.row_numbers) for batch in self._batches)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def input_ids(self, position: int) -> Int32Array:
        """Return the token ids (L,) int32 of one row."""
        batch, row = self._find(position)
        return batch.ids[batch.offsets[row] : batch.offsets[row + 1]]

    def labels(self, position: int) -> Int32Array:
        """Return the labels (L,) int32 of one row, ``IGNORED_LABEL`` where not trained on."""
        batch, row = self._find(position)
        return batch.labels[batch.offsets[row] : batch.offsets[row + 1]]

    def row_number(self, position: int) -> int:
        """Return the 1-based number of the row in its source file."""
        batch, row = self._find(position)
        return int(batch.row_numbers[row])

    def __iter__(self) -> Iterator[tuple[Int32Array, Int32Array, int]]:
        """Yield (input_ids, labels, row_number) of every row."""
        for position in range(len(self)):
            yield self.input_ids(position), self.labels(position), self.row_number(position)

    @cached_property
    def row_numbers(self) -> Int64Array:
        """Source row numbers of all rows, (rows,) int64."""
        return _concatenate([batch.row_numbers for batch in self._batches], np.int64)

    @cached_property
    def lengths(self) -> Int32Array:
        """Tokens of each row, (rows,) int32."""
        return _concatenate([np.diff(batch.offsets) for batch in self._batches], np.int32)

    @cached_property
    def supervised_counts(self) -> Int32Array:
        """Supervised tokens of each row, (rows,) int32."""
        return _concatenate([_count_supervised(batch) for batch in self._batches], np.int32)

    @property
    def tokens(self) -> int:
        """Tokens of all rows together."""
        return int(self.lengths.sum(dtype=np.int64))

    @property
    def supervised_tokens(self) -> int:
        """Supervised tokens of all rows together."""
        return int(self.supervised_counts.sum(dtype=np.int64))

    def _find(self, position: int) -> tuple[_Batch, int]:
        if not 0 <= position < len(self):
            raise IndexError(f"position must be 0 to {len(self) - 1}, got {position}")
        index = int(np.searchsorted(self._starts, position, side="right")) - 1
        return self._batches[index], position - int(self._starts[index])


def open_examples(folder: Path) -> ExamplesTable:
    """Map the examples in ``folder``.

    Raises: BugError: there is no examples file, or it has other columns.
    """
    return ExamplesTable(folder / FILE_NAME)


def _flatten(batch: pa.RecordBatch) -> _Batch:
    ids, labels, numbers = batch.columns
    return _Batch(
        offsets=ids.offsets.to_numpy(),
        ids=ids.values.to_numpy(),
        labels=labels.values.to_numpy(),
        row_numbers=numbers.to_numpy(),
    )


def _count_supervised(batch: _Batch) -> Int32Array:
    running = np.concatenate([[0], np.cumsum(batch.labels != IGNORED_LABEL)])
    return np.diff(running[batch.offsets]).astype(np.int32)


def _concatenate(parts: list[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype=dtype)
