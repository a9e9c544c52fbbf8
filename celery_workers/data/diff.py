"""What differs between two files of rows: which rows were added, removed or changed.

Rows are told by 64 bits of their content, so memory is 40 bytes a row at the height, however long the rows are; a second
reading fetches the few rows that are shown. A removed and an added row count as one changed row where both ask the same, or
answer the same, or stand alone between the same two rows that did not change.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celery_workers.data.canonical import to_canonical
from celery_workers.data.formats import FileFormat, read_rows
from celery_workers.data.importing import open_rows
from celery_workers.data.plain import plain
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.rows import SourceFile, SourceRow
from celery_workers.data.statistics import answer_of, question_of
from celery_workers.data.text_diff import Segment, mark

if TYPE_CHECKING:
    import numpy as np

    Positions = np.ndarray

MAX_SHOWN_CHARACTERS = 2000


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two files."""

    source: SourceFile
    file_format: FileFormat
    row_format: RowFormat


@dataclass(frozen=True, kw_only=True)
class ShownRow:
    """A row of the one or the other file, or of both: ``before`` and ``after`` hold the columns that differ.

    ``marks`` has what differs in those that both rows have: ``{column: {"before": …, "after": …}}`` in pieces of text.
    """

    before_number: int | None = None
    after_number: int | None = None
    before: dict[str, object] = field(default_factory=dict)
    after: dict[str, object] = field(default_factory=dict)
    marks: dict[str, dict[str, list[Segment]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RowsDiff:
    """Counts of rows, and the first rows of each kind."""

    unchanged: int
    added: int
    removed: int
    changed: int
    added_rows: list[ShownRow]
    removed_rows: list[ShownRow]
    changed_rows: list[ShownRow]


def diff_rows(before: Side, after: Side, *, samples: int = 20) -> RowsDiff:
    """Compare the rows of two files, and show the first ``samples`` of each kind.

    Raises: UserInputError: a file cannot be read.
    """
    import numpy as np

    old, new = _hashes(before), _hashes(after)
    kept_old, kept_new = _matches(old[0], new[0])
    removed = np.setdiff1d(np.arange(len(old[0])), kept_old)
    added = np.setdiff1d(np.arange(len(new[0])), kept_new)
    pairs: list[tuple[Positions, Positions]] = []
    for which in (1, 2):
        left, right = _matches(old[which][removed], new[which][added], skip_empty=True)
        pairs.append((removed[left], added[right]))
        removed, added = np.delete(removed, left), np.delete(added, right)
    left, right = _between_same(removed, added, kept_old, kept_new)
    pairs.append((removed[left], added[right]))
    removed, added = np.delete(removed, left), np.delete(added, right)
    changed = sorted((int(one), int(other)) for ones, others in pairs for one, other in zip(ones, others, strict=True))
    shown = _Shown(before, after, removed[:samples].tolist(), added[:samples].tolist(), changed[:samples])
    return RowsDiff(
        unchanged=len(kept_old), added=len(added), removed=len(removed), changed=len(changed),
        added_rows=shown.added(), removed_rows=shown.removed(), changed_rows=shown.changed(),
    )  # fmt: skip


def _hashes(side: Side) -> list[Positions]:
    """Return the 64-bit hashes of all rows: of their whole content, their question and their answer; 0 for none."""
    import numpy as np

    opened = open_rows(side.source, file_format=side.file_format, row_format=side.row_format)
    shape = opened.detected.shape
    columns = [array("Q") for _ in range(3)]
    for row in _rows(side):
        if row.values is None:
            parts: tuple[object, ...] = (row.problem.message if row.problem else "", None, None)
        else:
            values = to_canonical(row, opened.detected).values
            parts = (_present(row.values), question_of(values, shape), answer_of(values, shape))
        for column, part in zip(columns, parts, strict=True):
            column.append(_hash(part) if part else 0)
    return [np.frombuffer(column, dtype=np.uint64) if column else np.empty(0, np.uint64) for column in columns]


def _present(values: Mapping[str, object]) -> dict[str, object]:
    """Return the values of a row without those that are absent, null or empty, which are the same."""
    return {name: value for name, value in values.items() if value is not None and value != ""}


def _hash(value: object) -> int:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _matches(old: Positions, new: Positions, *, skip_empty: bool = False) -> tuple[Positions, Positions]:
    """Return positions in both of rows with the same key, each used once: the first with the first, and so on."""
    import numpy as np

    unique_old, unique_new = _numbered(old), _numbered(new)
    _, left, right = np.intersect1d(unique_old, unique_new, assume_unique=True, return_indices=True)
    if skip_empty:
        has_key = old[left] != 0
        left, right = left[has_key], right[has_key]
    return np.sort(left), right[np.argsort(left, kind="stable")]


def _numbered(keys: Positions) -> Positions:
    """Return keys that also tell the first, second, … row of the same key apart."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    is_first = np.ones(len(keys), dtype=bool)
    is_first[1:] = ranked[1:] != ranked[:-1]
    starts = np.maximum.accumulate(np.where(is_first, np.arange(len(keys)), 0))
    occurrence = np.empty(len(keys), dtype=np.uint64)
    occurrence[order] = (np.arange(len(keys)) - starts).astype(np.uint64)
    with np.errstate(over="ignore"):
        return keys + occurrence * np.uint64(0x9E37_79B9_7F4A_7C15)  # Weyl's constant: far from any other key


def _between_same(
    removed: Positions, added: Positions, kept_old: Positions, kept_new: Positions
) -> tuple[Positions, Positions]:
    """Return indices of removed and added rows that stand, equal in number, between the same two unchanged rows."""
    import numpy as np

    nothing = np.empty(0, dtype=np.int64)
    if not len(removed) or not len(added) or not bool(np.all(np.diff(kept_new) > 0)):
        return nothing, nothing
    old_gaps, new_gaps = np.searchsorted(kept_old, removed), np.searchsorted(kept_new, added)
    old_ids, old_counts = np.unique(old_gaps, return_counts=True)
    new_ids, new_counts = np.unique(new_gaps, return_counts=True)
    shared, left, right = np.intersect1d(old_ids, new_ids, assume_unique=True, return_indices=True)
    equal = shared[old_counts[left] == new_counts[right]]
    return np.flatnonzero(np.isin(old_gaps, equal)), np.flatnonzero(np.isin(new_gaps, equal))


class _Shown:
    """Fetches the rows to show in one reading of each file."""

    def __init__(
        self, before: Side, after: Side, removed: Sequence[int], added: Sequence[int], changed: Sequence[tuple[int, int]]
    ) -> None:
        self._removed, self._added, self._changed = removed, added, changed
        self._old = _fetch(before, {*removed, *(one for one, _ in changed)})
        self._new = _fetch(after, {*added, *(other for _, other in changed)})

    def removed(self) -> list[ShownRow]:
        rows = [self._old[position] for position in self._removed]
        return [ShownRow(before_number=row.number, before=_shown(row.values or {})) for row in rows]

    def added(self) -> list[ShownRow]:
        rows = [self._new[position] for position in self._added]
        return [ShownRow(after_number=row.number, after=_shown(row.values or {})) for row in rows]

    def changed(self) -> list[ShownRow]:
        return [_changed(self._old[one], self._new[other]) for one, other in self._changed]


def _fetch(side: Side, positions: set[int]) -> dict[int, SourceRow]:
    found: dict[int, SourceRow] = {}
    if not positions:
        return found
    for position, row in enumerate(_rows(side)):
        if position in positions:
            found[position] = row
            if len(found) == len(positions):
                break
    return found


def _changed(before: SourceRow, after: SourceRow) -> ShownRow:
    old, new = before.values or {}, after.values or {}
    names = [name for name in {**old, **new} if plain(old.get(name)) != plain(new.get(name))]
    shown_old = _shown({name: old[name] for name in names if name in old})
    shown_new = _shown({name: new[name] for name in names if name in new})
    marks = {}
    for name in shown_old.keys() & shown_new.keys():
        pieces = mark(_as_text(shown_old[name]), _as_text(shown_new[name]))
        marks[name] = dict(zip(("before", "after"), pieces, strict=True))
    return ShownRow(
        before_number=before.number, after_number=after.number, before=shown_old, after=shown_new, marks=marks
    )  # fmt: skip


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


def _shown(values: Mapping[str, object]) -> dict[str, object]:
    """Return the values of a row as JSON has them, long ones as the beginning of their text."""
    shown: dict[str, object] = {}
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
        shown[name] = plain(value) if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"
    return shown


def _rows(side: Side) -> Iterator[SourceRow]:
    for batch in read_rows(side.source, side.file_format):
        yield from batch.rows
