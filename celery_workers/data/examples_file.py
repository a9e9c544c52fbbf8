"""Write and read ``examples.arrow``: token ids and labels in one memory-mapped file.

    with ExamplesWriter(folder) as writer:
        writer.append([1, 5, 9, 2], [-100, -100, 9, 2], row_number=17)

    table = open_examples(folder)
    table.input_ids(0)          # (L,) int32, a view of the mapped file
    table.supervised_counts     # (rows,) int32

The file is an uncompressed Arrow IPC file, so that a reader maps it instead of loading it and several processes share
its pages. Columns: ``input_ids`` list<int32>, ``labels`` list<int32>, ``row_number`` int64.

``kind`` in the schema's metadata says what the rows are for; a file without it is ``supervised``, continued pretraining
included. What is batched is always a row, so all kinds share lengths, counts and collation:

- ``preference``: rows stand in pairs, the chosen one at an even position and the rejected one behind it, with the same
  prompt and ``row_number``; ``table.pairs`` (pairs, 2) has their positions.
- ``kto``: a further column ``label`` bool says whether the row's answer is wanted; ``table.is_desirable`` (rows,).
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
from celery_workers.data.examples_schema import ExamplesKind, kind_of, schema_of

FILE_NAME = "examples.arrow"
IGNORED_LABEL = -100
"""Label of a token that is not trained on; what PyTorch's cross entropy ignores."""

_ROWS_PER_BATCH = 1024
"""Even, so that no pair is parted."""

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Side = tuple[Sequence[int] | Int32Array, Sequence[int] | Int32Array]
"""Token ids (L,) and labels (L,) of one row."""


class ExamplesWriter:
    """Append rows to a new ``examples.arrow`` in ``folder``. Left by an exception, it leaves no file behind."""

    def __init__(self, folder: Path, *, kind: ExamplesKind = ExamplesKind.SUPERVISED) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE_NAME
        self.kind = kind
        self.rows = 0
        self.tokens = 0
        self.supervised_tokens = 0
        self._waiting: list[tuple[Int32Array, Int32Array, int]] = []
        self._waiting_labels: list[bool] = []
        self._schema = schema_of(kind)
        self._sink = pa.OSFile(str(self.path), "wb")
        self._writer = pa.ipc.new_file(self._sink, self._schema)

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

    def append(
        self,
        input_ids: Sequence[int] | Int32Array,
        labels: Sequence[int] | Int32Array,
        *,
        row_number: int,
        is_desirable: bool | None = None,
    ) -> None:
        """Add one row: ``input_ids`` (L,) and ``labels`` (L,), ``IGNORED_LABEL`` where not trained on.

        Rows of the kind kto, and no others, say whether their answer is wanted.

        Raises: BugError: the lengths differ, the row is empty, or its first token is supervised, which no model can
        predict; the kind of the file takes other rows.
        """
        if self.kind is ExamplesKind.PREFERENCE:
            raise BugError(f"row {row_number}: rows of the kind preference come in pairs")
        if (self.kind is ExamplesKind.KTO) is not (is_desirable is not None):
            raise BugError(f"row {row_number}: rows of the kind kto alone say is_desirable, got {is_desirable} for {self.kind}")
        self._take(input_ids, labels, row_number)
        if is_desirable is not None:
            self._waiting_labels.append(is_desirable)
        self._flush_when_full()

    def append_pair(self, chosen: Side, rejected: Side, *, row_number: int) -> None:
        """Add the two rows of a preference.

        Raises: BugError: a side is no row, the file is of another kind, or the tokens before the first supervised one differ.
        """
        if self.kind is not ExamplesKind.PREFERENCE:
            raise BugError(f"row {row_number}: only a file of the kind preference takes pairs, got {self.kind}")
        if not np.array_equal(_prompt(*chosen), _prompt(*rejected)):
            raise BugError(f"row {row_number}: chosen and rejected must begin with the same prompt tokens")
        for side in (chosen, rejected):
            self._take(*side, row_number)
        self._flush_when_full()

    def _take(self, input_ids: Sequence[int] | Int32Array, labels: Sequence[int] | Int32Array, row_number: int) -> None:
        ids, targets = _int32(input_ids), _int32(labels)
        if len(ids) != len(targets) or not len(ids):
            raise BugError(f"row {row_number}: input_ids and labels must be of one length > 0, got {len(ids)}, {len(targets)}")
        if targets[0] != IGNORED_LABEL:
            raise BugError(f"row {row_number}: the first token has nothing before it, so its label must be {IGNORED_LABEL}")
        self._waiting.append((ids, targets, row_number))
        self.rows += 1
        self.tokens += len(ids)
        self.supervised_tokens += int(np.count_nonzero(targets != IGNORED_LABEL))

    def _flush_when_full(self) -> None:
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
        if self.kind is ExamplesKind.KTO:
            columns.append(pa.array(self._waiting_labels, type=pa.bool_()))
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self._waiting.clear()
        self._waiting_labels.clear()


@dataclass(frozen=True)
class _Batch:
    """One record batch as flat arrays; ``offsets`` (rows + 1,) cut ``ids`` and ``labels`` into rows."""

    offsets: Int32Array
    ids: Int32Array
    labels: Int32Array
    row_numbers: Int64Array
    is_desirable: BoolArray | None


class ExamplesTable:
    """Rows of an examples file, by position from 0. Arrays are read-only views of the mapped file."""

    def __init__(self, path: Path) -> None:
        try:
            source = pa.memory_map(str(path))
            reader = pa.ipc.open_file(source)
        except (pa.ArrowInvalid, FileNotFoundError) as error:
            raise BugError(f"{path.name} is not an examples file: {error}") from error
        self.kind = kind_of(reader.schema, path)
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
    def example_count(self) -> int:
        """How many examples the rows are: a pair is one."""
        return len(self) // 2 if self.kind is ExamplesKind.PREFERENCE else len(self)

    @cached_property
    def pairs(self) -> Int64Array:
        """Positions of the chosen and the rejected row of each example, (pairs, 2) int64.

        Raises: BugError: the rows are no preferences, or do not stand in pairs.
        """
        if self.kind is not ExamplesKind.PREFERENCE:
            raise BugError(f"rows of the kind {self.kind} do not stand in pairs")
        numbers = self.row_numbers
        if len(numbers) % 2 or not np.array_equal(numbers[::2], numbers[1::2]):
            raise BugError("the rows of each preference must stand together and be of one row of the source")
        return np.arange(len(self), dtype=np.int64).reshape(-1, 2)

    @cached_property
    def is_desirable(self) -> BoolArray:
        """Whether the answer of each row is wanted, (rows,) bool.

        Raises: BugError: the rows do not say so, being of another kind than kto.
        """
        if self.kind is not ExamplesKind.KTO:
            raise BugError(f"rows of the kind {self.kind} do not say whether their answer is wanted")
        return _concatenate([batch.is_desirable for batch in self._batches if batch.is_desirable is not None], np.bool_)

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


def _int32(values: Sequence[int] | Int32Array) -> Int32Array:
    if isinstance(values, np.ndarray):
        return np.asarray(values, dtype=np.int32)
    return np.fromiter(values, np.int32, len(values))  # from a list, a third of asarray's time


def _flatten(batch: pa.RecordBatch) -> _Batch:
    ids, labels, numbers, *flags = batch.columns
    return _Batch(
        offsets=ids.offsets.to_numpy(),
        ids=ids.values.to_numpy(),
        labels=labels.values.to_numpy(),
        row_numbers=numbers.to_numpy(),
        is_desirable=flags[0].to_numpy(zero_copy_only=False) if flags else None,
    )


def _prompt(input_ids: Sequence[int] | Int32Array, labels: Sequence[int] | Int32Array) -> Int32Array:
    """Return the ids before the first supervised one."""
    is_supervised = np.asarray(labels) != IGNORED_LABEL
    length = int(np.argmax(is_supervised)) if is_supervised.any() else len(is_supervised)
    return np.asarray(input_ids, dtype=np.int32)[:length]


def _count_supervised(batch: _Batch) -> Int32Array:
    running = np.concatenate([[0], np.cumsum(batch.labels != IGNORED_LABEL)])
    return np.diff(running[batch.offsets]).astype(np.int32)


def _concatenate(parts: list[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype=dtype)
