"""The first pass of preprocessing: clean rows, drop exact repetitions, decide which are held out; every row is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from celery_workers.contract.errors import UserInputError
from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.checks import check_row, is_fit
from celery_workers.data.cleaning import Cleaner
from celery_workers.data.dedup import content_key
from celery_workers.data.row_formats import Shape
from celery_workers.data.rows import Severity
from celery_workers.data.splits import choose_held_out, named_side

_SAMPLE_ROWS = 20


@dataclass(frozen=True, kw_only=True)
class SelectionRules:
    """What the first pass does. ``split_column`` names held-out rows; without it ``eval_fraction`` and ``seed`` do."""

    is_cleaning: bool
    is_deduplicating: bool
    eval_fraction: float
    seed: int
    split_column: str | None = None


@dataclass(kw_only=True)
class SelectionCounts:
    """Rows in, rows dropped by reason with the first row numbers, rows kept."""

    rows: int = 0
    emptied: list[int] = field(default_factory=list)
    duplicates: list[tuple[int, int]] = field(default_factory=list)
    emptied_rows: int = 0
    duplicate_rows: int = 0
    cleaned_rows: Counter[str] = field(default_factory=Counter)

    @property
    def kept_rows(self) -> int:
        """Rows that go on."""
        return self.rows - self.emptied_rows - self.duplicate_rows

    def note_emptied(self, row_number: int) -> None:
        """Count a row that cleaning left without a question or an answer."""
        self.emptied_rows += 1
        if len(self.emptied) < _SAMPLE_ROWS:
            self.emptied.append(row_number)

    def note_duplicate(self, row_number: int, first: int) -> None:
        """Count a row that repeats the row ``first``."""
        self.duplicate_rows += 1
        if len(self.duplicates) < _SAMPLE_ROWS:
            self.duplicates.append((row_number, first))


class Selection:
    """Take rows batch by batch; after the last, ``held_out_keys`` says which contents are held out."""

    def __init__(self, shape: Shape, rules: SelectionRules) -> None:
        self._shape = shape
        self._rules = rules
        self._cleaner = Cleaner()
        self._first_rows: dict[bytes, int] = {}
        self._named: set[bytes] = set()
        self.counts = SelectionCounts(cleaned_rows=self._cleaner.rows_changed)
        self.keys: list[bytes] = []
        """Content keys of the kept rows, in their order."""

    def take(self, rows: Iterable[CanonicalRow]) -> list[CanonicalRow]:
        """Return the rows that go on, cleaned.

        Raises: UserInputError: rows are unfit to train on, or their split column names no side.
        """
        kept: list[CanonicalRow] = []
        unfit: list[CanonicalRow] = []
        for row in rows:
            self.counts.rows += 1
            cleaned = self._cleaner.clean(row) if self._rules.is_cleaning else row
            if not is_fit(check_row(cleaned, self._shape)):
                if cleaned is row or not is_fit(check_row(row, self._shape)):
                    unfit.append(cleaned)
                else:
                    self.counts.note_emptied(row.number)
                continue
            if self._is_new(cleaned):
                kept.append(CanonicalRow(cleaned.number, cleaned.values))
        if unfit:
            raise _unfit(unfit, self._shape)
        return kept

    def held_out_keys(self) -> set[bytes]:
        """Return the content keys of the rows held out for evaluation."""
        if self._rules.split_column:
            return self._named
        return choose_held_out(self.keys, fraction=self._rules.eval_fraction, seed=self._rules.seed)

    def _is_new(self, row: CanonicalRow) -> bool:
        key = content_key(row.values)
        if self._rules.split_column and self._names_held_out(row, self._rules.split_column):
            self._named.add(key)
        first = self._first_rows.setdefault(key, row.number)
        if first != row.number and self._rules.is_deduplicating:
            self.counts.note_duplicate(row.number, first)
            return False
        self.keys.append(key)
        return True

    def _names_held_out(self, row: CanonicalRow, column: str) -> bool:
        side = named_side(row.extras.get(column))
        if side is None:
            message = f"row {row.number}: {column} must say train or eval, got {row.extras.get(column)!r}"
            raise UserInputError(message, code="unknown_split", field="split_column", evidence={"row": row.number})
        return side


def _unfit(rows: Sequence[CanonicalRow], shape: Shape) -> UserInputError:
    problems = [
        problem for row in rows[:_SAMPLE_ROWS] for problem in check_row(row, shape) if problem.severity is Severity.ERROR
    ]
    first = problems[0]
    return UserInputError(
        f"row {first.row_number}: {first.message}; {len(rows)} rows up to here cannot be trained on. {first.suggestion} "
        "A validation node before this one can drop such rows.",
        code="unfit_rows",
        evidence={"rows": [row.number for row in rows[:_SAMPLE_ROWS]], "problems": [item.as_json() for item in problems]},
    )
