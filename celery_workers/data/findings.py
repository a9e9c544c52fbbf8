"""The problems that only all rows together show, from what was gathered of them."""

from __future__ import annotations

from collections.abc import Iterator

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


def find_in_whole(gathered: Gathered) -> Iterator[RowProblem]:
    """Yield the problems of single rows that others bring up, code by code."""
    for number, first in gathered.duplicates():
        yield RowProblem(row_number=number, code="duplicate_row", field="row", message=f"the same as row {first}")
    for number, held_out in gathered.leaks():
        message = f"a training row that asks the same as row {held_out}, which is held out for evaluation"
        yield RowProblem(row_number=number, code="leaked_row", field=SPLIT_COLUMN, message=message)
    least = max(MIN_SAME_ANSWERS, int(SAME_ANSWERS_FRACTION * len(gathered.numbers)))
    for number, first, rows in gathered.same_answers(least):
        message = f"one of {rows} rows with the same answer; the first of them is row {first}"
        yield RowProblem(row_number=number, code="identical_answer", field="answer", message=message)
    for number, characters, times in gathered.long_rows(times=OUTLIER_TIMES, min_rows=OUTLIER_MIN_ROWS):
        message = f"the row has {characters} characters, {times:.0f} times as many as half of the rows"
        yield RowProblem(row_number=number, code="length_outlier", field="row", message=message)


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
