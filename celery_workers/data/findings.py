"""The problems that only all rows together show, from what was gathered of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from celery_workers.data.rows import RowProblem
from celery_workers.data.statistics import SPLIT_COLUMN, Gathered

MIN_SAME_ANSWERS = 5
SAME_ANSWERS_FRACTION = 0.001
"""An answer is said to be the same in many rows from the larger of this part of the rows and ``MIN_SAME_ANSWERS`` on."""

OUTLIER_TIMES = 50.0
OUTLIER_MIN_ROWS = 100
MIN_LABEL_ROWS = 50
LABEL_FRACTION = 0.9
"""Part of the rows, 0 to 1, from which one label counts as too frequent."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One code that only the whole shows: how many rows have it, and the problems of the first of them, in order."""

    code: str
    rows: int
    first: list[RowProblem]


def find_in_whole(gathered: Gathered, *, limit: int) -> Iterator[Finding]:
    """Yield what single rows are found to be beside the others, code by code, with the first ``limit`` rows of each."""

    def finding(code: str, field: str, rows: int, first: Iterable[tuple[int, str]]) -> Finding:
        problems = [RowProblem(row_number=number, code=code, field=field, message=message) for number, message in first]
        return Finding(code=code, rows=rows, first=problems)

    rows, repeats = gathered.duplicates(limit)
    yield finding("duplicate_row", "row", rows, ((number, f"the same as row {first}") for number, first in repeats))
    rows, leaks = gathered.leaks(limit)
    leaked = "a training row that asks the same as row {}, which is held out for evaluation"
    yield finding("leaked_row", SPLIT_COLUMN, rows, ((number, leaked.format(held_out)) for number, held_out in leaks))
    least = max(MIN_SAME_ANSWERS, int(SAME_ANSWERS_FRACTION * gathered.rows))
    rows, answers = gathered.same_answers(least, limit)
    same = "one of {} rows with the same answer; the first of them is row {}"
    yield finding("identical_answer", "answer", rows, ((number, same.format(count, first)) for number, first, count in answers))
    rows, outliers = gathered.long_rows(times=OUTLIER_TIMES, min_rows=OUTLIER_MIN_ROWS, limit=limit)
    long = "the row has {} characters, {:.0f} times as many as half of the rows"
    yield finding("length_outlier", "row", rows, ((number, long.format(size, times)) for number, size, times in outliers))


def find_imbalance(gathered: Gathered) -> tuple[RowProblem, int] | None:
    """Return the problem of the label that stands in nearly all rows, and its number of rows, if there is one."""
    labels = gathered.label_set()
    if labels is None or labels.total() < MIN_LABEL_ROWS:
        return None
    label, rows = labels.most_common(1)[0]
    if rows < LABEL_FRACTION * labels.total():
        return None
    message = f"the label {label!r} stands in {rows} of {labels.total()} rows ({rows / labels.total():.1%})"
    problem = RowProblem(row_number=gathered.label_rows[label], code="label_imbalance", field="answer", message=message)
    return problem, rows
