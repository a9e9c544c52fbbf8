"""The first pass of preprocessing: clean rows, drop what repeats, decide which are held out; every row is counted.

Rows are taken in batches. What needs all of them (near duplicates, contamination, the split) is settled after the last.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from celery_workers.contract.errors import UserInputError
from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.checks import check_row, is_fit
from celery_workers.data.cleaning import Cleaner, choose_steps
from celery_workers.data.decontamination import Contaminated, Contamination
from celery_workers.data.dedup import comparison_text, content_key
from celery_workers.data.languages import LanguageFilter
from celery_workers.data.near_dedup import NearDuplicateFinder, NearDuplicates, NearPair, NearResult
from celery_workers.data.personal_data import PersonalData
from celery_workers.data.row_formats import Shape
from celery_workers.data.rows import Severity
from celery_workers.data.selection_counts import SAMPLE_ROWS, SelectionCounts
from celery_workers.data.splits import choose_held_out, group_keys, named_side


@dataclass(frozen=True, kw_only=True)
class SelectionRules:
    """What the first pass does. ``split_column`` names held-out rows; without it ``eval_fraction`` and ``seed`` do."""

    is_cleaning: bool
    is_deduplicating: bool
    eval_fraction: float
    seed: int
    split_column: str | None = None
    group_column: str | None = None
    is_stripping_html: bool = False
    is_collapsing_white_space: bool = False
    masked: tuple[PersonalData, ...] = ()
    languages: tuple[str, ...] = ()
    near_duplicates: NearDuplicates = "off"

    def check_columns(self, extras: Sequence[str]) -> None:
        """Check that the columns that say where rows go are among ``extras``, those beyond the row format.

        Raises: UserInputError: one is not.
        """
        for name in ("split_column", "group_column"):
            column = getattr(self, name)
            if column and column not in extras:
                known = ", ".join(extras[:20]) or "none"
                message = f"{name} must be a column beyond the row format ({known}), got {column!r}"
                raise UserInputError(message, code="missing_column", field=name)


class Selection:
    """Take rows batch by batch; after the last, ``settle``, and ``sides`` says where each goes.

    ``finder`` looks for near duplicates, ``contamination`` for rows of evaluation sets; without them nothing is looked for.
    """

    def __init__(
        self,
        shape: Shape,
        rules: SelectionRules,
        *,
        finder: NearDuplicateFinder | None = None,
        contamination: Contamination | None = None,
    ) -> None:
        self._shape = shape
        self._rules = rules
        self._finder = finder
        self._contamination = contamination
        self._contaminated: dict[int, Contaminated] = {}
        steps = choose_steps(
            repair=rules.is_cleaning, html=rules.is_stripping_html, white_space=rules.is_collapsing_white_space
        )  # fmt: skip
        self._cleaner = Cleaner(steps, masked=rules.masked)
        self._language_filter = LanguageFilter(rules.languages) if rules.languages else None
        self._first_rows: dict[bytes, int] = {}
        self._named: set[bytes] = set()
        self._named_train: set[bytes] = set()
        self._numbers = array("q")
        self._groups: list[tuple[int, str]] = []
        self._near = NearResult(repeats={}, groups={}, capped=0)
        self.counts = SelectionCounts(
            cleaned_rows=self._cleaner.rows_changed, cleaning_samples=self._cleaner.samples, masked=self._cleaner.masked,
            languages=self._language_filter.rows if self._language_filter else None,
            near_duplicates=rules.near_duplicates,
        )  # fmt: skip
        if contamination is not None:
            self.counts.evaluation_rows, self.counts.evaluation_match = contamination.evaluation_rows, contamination.match
        self.keys: list[bytes] = []
        """Content keys of the rows that ``take`` returned, in their order."""

    def take(self, rows: Iterable[CanonicalRow]) -> list[CanonicalRow]:
        """Return the rows that go on, cleaned.

        Raises: UserInputError: rows are unfit to train on, or their split column names no side.
        """
        kept: list[CanonicalRow] = []
        unfit: list[CanonicalRow] = []
        for row in rows:
            self.counts.rows += 1
            cleaned = row if self._cleaner.is_idle else self._cleaner.clean(row)
            if not is_fit(check_row(cleaned, self._shape)):
                if cleaned is row or not is_fit(check_row(row, self._shape)):
                    unfit.append(cleaned)
                else:
                    self.counts.note_emptied(row.number)
            elif self._is_wanted_language(cleaned) and self._is_new(cleaned):
                kept.append(CanonicalRow(cleaned.number, cleaned.values))
        if unfit:
            raise _unfit(unfit, self._shape)
        if self._finder is not None:
            self._finder.add([comparison_text(row.values) for row in kept])
        if self._contamination is not None:
            self._contamination.add(kept, self._shape)
        return kept

    def settle(self, *, after_each: Callable[[], None]) -> None:
        """Look for near duplicates and for rows of the evaluation sets among the rows taken; call after the last row.

        ``after_each`` is called often, so that a cancel is seen.
        """
        if self._contamination is not None:
            self._contaminated = self._contamination.find(after_each=after_each)
            for position, found in self._contaminated.items():
                self.counts.note_contaminated(self._numbers[position], found)
        if self._finder is None:
            return
        first = [position for position, key in enumerate(self.keys) if key in self._named]
        near = self._finder.find(first=first, skipped=self._contaminated, after_each=after_each)
        repeats = near.repeats if self._rules.near_duplicates == "drop" else {}
        self._near = replace(near, repeats=dict(sorted(repeats.items())))
        self._count_near(near)
        self._finder.close()

    def sides(self) -> list[bool | None]:
        """Return for each row that ``take`` returned whether it is held out; None if it is left out after all."""
        keys = self.keys
        links = [*self._groups, *((position, str(group)) for position, group in self._near.groups.items())]
        if links:
            keys = group_keys(keys, links)
        held_out = self._held_out(keys)
        sides = [key in held_out if self._is_staying(position) else None for position, key in enumerate(keys)]
        self.counts.leaked_contents = len(
            {key for key, side in zip(self.keys, sides, strict=True) if side}
            & {key for key, side in zip(self.keys, sides, strict=True) if side is False}
        )
        return sides

    def _held_out(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return the keys of the groups held out for evaluation."""
        if self._rules.split_column:
            named = {group for group, key in zip(keys, self.keys, strict=True) if key in self._named}
            staying = [pair for position, pair in enumerate(zip(keys, self.keys, strict=True)) if self._is_staying(position)]
            self.counts.moved_rows = sum(group in named and key not in self._named for group, key in staying)
            self.counts.moved_rows += len(self._named & self._named_train)
            return named
        candidates = [key for position, key in enumerate(keys) if self._is_staying(position)]
        return choose_held_out(candidates, fraction=self._rules.eval_fraction, seed=self._rules.seed)

    def _count_near(self, found: NearResult) -> None:
        counts = self.counts
        counts.compared_rows, counts.capped_rows = len(self.keys), found.capped
        counts.grouped_rows = len(found.groups)
        for position, pair in sorted(found.repeats.items()):
            texts = partial(self._beginnings, pair)
            is_leak = self._is_leak(position, pair.other)
            other = self._numbers[pair.other]
            counts.note_pair(self._numbers[position], other, similarity=pair.similarity, is_leak=is_leak, texts=texts)

    def _beginnings(self, pair: NearPair) -> tuple[str, str]:
        assert self._finder is not None  # noqa: S101 - there are pairs, so there is a finder
        return self._finder.beginning(pair.position), self._finder.beginning(pair.other)

    def _is_staying(self, position: int) -> bool:
        return position not in self._near.repeats and position not in self._contaminated

    def _is_leak(self, position: int, other: int) -> bool:
        return self.keys[other] in self._named and self.keys[position] not in self._named

    def _is_wanted_language(self, row: CanonicalRow) -> bool:
        if self._language_filter is None or self._language_filter.keeps(comparison_text(row.values)):
            return True
        self.counts.note_other_language(row.number)
        return False

    def _is_new(self, row: CanonicalRow) -> bool:
        key = content_key(row.values)
        if self._rules.split_column:
            (self._named if self._names_held_out(row, self._rules.split_column) else self._named_train).add(key)
        first = self._first_rows.setdefault(key, row.number)
        if first != row.number and self._rules.is_deduplicating:
            self.counts.note_duplicate(row.number, first)
            return False
        if self._rules.group_column and (group := row.extras.get(self._rules.group_column)):
            self._groups.append((len(self.keys), f"column {group}"))
        self.keys.append(key)
        self._numbers.append(row.number)
        return True

    def _names_held_out(self, row: CanonicalRow, column: str) -> bool:
        side = named_side(row.extras.get(column))
        if side is None:
            message = f"row {row.number}: {column} must say train or eval, got {row.extras.get(column)!r}"
            raise UserInputError(message, code="unknown_split", field="split_column", evidence={"row": row.number})
        return side


def _unfit(rows: Sequence[CanonicalRow], shape: Shape) -> UserInputError:
    problems = [
        problem for row in rows[:SAMPLE_ROWS] for problem in check_row(row, shape) if problem.severity is Severity.ERROR
    ]
    first = problems[0]
    return UserInputError(
        f"row {first.row_number}: {first.message}; {len(rows)} rows up to here cannot be trained on. {first.suggestion} "
        "A validation node before this one can drop such rows.",
        code="unfit_rows",
        evidence={"rows": [row.number for row in rows[:SAMPLE_ROWS]], "problems": [item.as_json() for item in problems]},
    )
