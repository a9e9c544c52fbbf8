"""A number for each row of a file: in memory while the rows are few, in a temporary file beyond that.

Memory is bounded, and every question that is asked of the numbers reads them in pieces.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

SPILL_BYTES = 1024**2
CHUNK_ROWS = 256 * 1024
GROUPED_ROWS = 512 * 1024
"""Rows whose numbers are compared at a time."""


class SpilledColumn:
    """Numbers of one type, appended and then read in order."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self._file = tempfile.SpooledTemporaryFile(max_size=SPILL_BYTES)  # noqa: SIM115 (closed with the column)
        self._close = weakref.finalize(self, self._file.close)
        self.rows = 0

    def append(self, numbers: ArrayLike) -> None:
        """Add ``numbers`` for the next rows."""
        import numpy as np

        array = np.asarray(numbers, dtype=self._dtype)
        self._file.write(array.tobytes())
        self.rows += len(array)

    def chunks(self) -> Iterator[tuple[int, NDArray[np.generic]]]:
        """Yield (position of the first row, numbers), ``CHUNK_ROWS`` at a time."""
        import numpy as np

        width = np.dtype(self._dtype).itemsize
        for start in range(0, self.rows, CHUNK_ROWS):
            self._file.seek(start * width)
            yield start, np.frombuffer(self._file.read(CHUNK_ROWS * width), dtype=self._dtype)
        self._file.seek(0, 2)

    def at(self, position: int) -> int:
        """Return the number of the row at ``position``."""
        import numpy as np

        width = np.dtype(self._dtype).itemsize
        self._file.seek(position * width)
        number = int(np.frombuffer(self._file.read(width), dtype=self._dtype)[0])
        self._file.seek(0, 2)
        return number


@dataclass(frozen=True)
class Part:
    """Some rows of a column: all that have one of a set of numbers. ``positions`` ascend; ``beside`` are their numbers in
    other columns."""

    positions: NDArray[np.int64]
    numbers: NDArray[np.generic]
    beside: list[NDArray[np.generic]]

    def groups(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for each row the position of the first with its number, and how many have it."""
        import numpy as np

        _, first, group, counts = np.unique(self.numbers, return_index=True, return_inverse=True, return_counts=True)
        return self.positions[first[group]], counts[group]


Wanted = Callable[["NDArray[np.int64]", "NDArray[np.generic]"], "NDArray[np.bool_]"]


def parts(column: SpilledColumn, *beside: SpilledColumn, wanted: Wanted | None = None) -> Iterator[Part]:
    """Yield the rows of a column of int64 in parts that share no number, so that each can be compared by itself.

    ``wanted`` (positions, numbers) says which rows count at all.
    """
    import numpy as np

    count = 1 + column.rows // GROUPED_ROWS
    for index in range(count):
        pieces: list[Part] = []
        for chunks in zip(column.chunks(), *(other.chunks() for other in beside), strict=True):
            start, numbers = chunks[0]
            places = np.flatnonzero(numbers.view(np.uint64) % np.uint64(count) == index)
            if wanted is not None:
                places = places[wanted(places + start, numbers[places])]
            pieces.append(Part(places + start, numbers[places], [other[places] for _, other in chunks[1:]]))
        if pieces:
            columns = zip(*(piece.beside for piece in pieces), strict=True)
            yield Part(
                np.concatenate([piece.positions for piece in pieces]),
                np.concatenate([piece.numbers for piece in pieces]),
                [np.concatenate(column) for column in columns],
            )


class Marks:
    """A bit for each of ``rows`` rows, unset at first."""

    def __init__(self, rows: int) -> None:
        import numpy as np

        self._bits = np.zeros(rows // 8 + 1, np.uint8)

    def set(self, positions: NDArray[np.int64]) -> None:
        """Mark the rows at ``positions``."""
        import numpy as np

        np.bitwise_or.at(self._bits, positions >> 3, np.left_shift(1, positions & 7).astype(np.uint8))

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each of ``positions`` is marked."""
        import numpy as np

        bits = self._bits[positions >> 3] >> (positions & 7).astype(np.uint8)
        marked: NDArray[np.bool_] = np.equal(bits & 1, 1)
        return marked


class Lowest:
    """The rows that were found: how many, and the first ``limit`` of them with a number each."""

    def __init__(self, limit: int) -> None:
        import numpy as np

        self._limit = limit
        self._positions = np.empty(0, np.int64)
        self._others = np.empty((0, 2), np.int64)
        self.rows = 0

    def add(self, positions: NDArray[np.int64], *others: NDArray[np.int64]) -> None:
        """Count rows at ``positions``; up to two ``others`` are kept beside each."""
        import numpy as np

        self.rows += len(positions)
        beside = np.zeros((len(positions), 2), np.int64)
        for index, column in enumerate(others):
            beside[:, index] = column
        together = np.concatenate([self._positions, positions])
        order = np.argsort(together, kind="stable")[: self._limit]
        self._positions = together[order]
        self._others = np.concatenate([self._others, beside])[order]

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Yield (position, first other, second other) in the order of the rows."""
        for position, (one, two) in zip(self._positions.tolist(), self._others.tolist(), strict=True):
            yield position, one, two
