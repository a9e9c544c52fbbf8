"""Gather the problems of all rows into one bounded report."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

from celery_workers.contract.context import Figure, ReportDocument, Series, Table
from celery_workers.data.canonical import CanonicalRow, texts
from celery_workers.data.checks import DEFAULT_MAX_CHARACTERS, check_row, is_fit
from celery_workers.data.dedup import DuplicateFinder
from celery_workers.data.row_formats import Detected
from celery_workers.data.rows import CODES, RowProblem, Severity

PROBLEMS_PER_CODE = 100
ROW_NUMBERS_PER_CODE = 1000
_EDGES = [0, 1, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144, 524288, 1048576]


class ReportBuilder:
    """Check rows one by one; ``build`` says what was found.

    Memory is 16 bytes a row (to find duplicates) beside the bounded samples.
    """

    def __init__(self, detected: Detected, *, max_characters: int = DEFAULT_MAX_CHARACTERS) -> None:
        self._detected = detected
        self._max_characters = max_characters
        self._duplicates = DuplicateFinder()
        self._problems: dict[str, list[RowProblem]] = {}
        self._row_numbers: dict[str, list[int]] = {}
        self._rows_by_code: Counter[str] = Counter()
        self._problems_total = 0
        self._lengths = [0] * len(_EDGES)
        self._with_warnings = 0
        self.rows = 0
        self.fit_rows = 0
        self.characters = 0

    @property
    def rows_with_errors(self) -> int:
        """Rows that cannot be trained on."""
        return self.rows - self.fit_rows

    def add(self, row: CanonicalRow) -> list[RowProblem]:
        """Check ``row`` and return its problems."""
        problems = check_row(row, self._detected.shape, max_characters=self._max_characters)
        length = sum(len(text) for _, text in texts(row.values, self._detected.format))
        self.rows += 1
        self.characters += length
        self._lengths[bisect_right(_EDGES, length) - 1] += 1
        if is_fit(problems):
            self.fit_rows += 1
            self._duplicates.add(row.number, row.values)
        if problems:
            self._record(problems)
            self._with_warnings += any(problem.severity is Severity.WARNING for problem in problems)
        return problems

    def _record(self, problems: Sequence[RowProblem]) -> None:
        for code in {problem.code: None for problem in problems}:
            self._rows_by_code[code] += 1
            numbers = self._row_numbers.setdefault(code, [])
            if len(numbers) < ROW_NUMBERS_PER_CODE:
                numbers.append(problems[0].row_number)
        for problem in problems:
            self._problems_total += 1
            kept = self._problems.setdefault(problem.code, [])
            if len(kept) < PROBLEMS_PER_CODE:
                kept.append(problem)

    def build(self) -> dict[str, object]:
        """Return the report as JSON. Call once, after the last row.

        ``problems`` holds the first ``PROBLEMS_PER_CODE`` of each code, ``problems_total`` says how many there are;
        ``counts[].row_numbers`` the first ``ROW_NUMBERS_PER_CODE``, ``counts[].rows`` how many there are.
        """
        for number, first in self._duplicates.pairs():
            message = f"the same as row {first}"
            self._record([RowProblem(row_number=number, code="duplicate_row", field="row", message=message)])
        kept = [problem for problems in self._problems.values() for problem in problems]
        return {
            "format": self._detected.format.value,
            "format_reason": self._detected.reason,
            "rows": self.rows,
            "fit_rows": self.fit_rows,
            "rows_with_errors": self.rows_with_errors,
            "rows_with_warnings": self._with_warnings,
            "duplicate_rows": self._rows_by_code["duplicate_row"],
            "characters": self.characters,
            "counts": [self._count(code) for code in CODES if self._rows_by_code[code]],
            "problems": [problem.as_json() for problem in sorted(kept, key=lambda problem: problem.row_number)],
            "problems_shown": len(kept),
            "problems_total": self._problems_total,
            "length_histogram": self._histogram(),
        }

    def _count(self, code: str) -> dict[str, object]:
        known = CODES[code]
        return {
            "code": code,
            "severity": known.severity.value,
            "meaning": known.meaning,
            "fix": known.fix,
            "rows": self._rows_by_code[code],
            "row_numbers": self._row_numbers[code],
        }

    def _histogram(self) -> dict[str, list[int]]:
        """Return rows by length in characters: ``rows[i]`` have at least ``from[i]``, and less than ``from[i + 1]``."""
        last = max((index for index, count in enumerate(self._lengths) if count), default=0)
        return {"from": _EDGES[: last + 1], "rows": self._lengths[: last + 1]}


def as_document(report: dict[str, object]) -> ReportDocument:
    """Return what ``build`` gave as a report to show."""
    rows, fit = report["rows"], report["fit_rows"]
    counts = Table(
        title="Problems by code",
        columns=["code", "severity", "rows", "first rows", "meaning", "fix"],
        rows=[
            [count["code"], count["severity"], count["rows"], ", ".join(map(str, count["row_numbers"][:10])), count["meaning"],
             count["fix"]]
            for count in report["counts"]
        ],
    )  # fmt: skip
    problems = Table(
        title=f"Problems by row ({report['problems_shown']} of {report['problems_total']})",
        columns=["row", "field", "code", "message", "fix"],
        rows=[[item[name] for name in ("row_number", "field", "code", "message", "fix")] for item in report["problems"]],
    )
    histogram = report["length_histogram"]
    lengths = Series(name="rows", x=histogram["from"], y=histogram["rows"])
    return ReportDocument(
        kind="validation",
        title="Validation",
        summary={
            "rows": rows,
            "fit_rows": fit,
            "dropped_rows": rows - fit,
            "rows_with_warnings": report["rows_with_warnings"],
            "duplicate_rows": report["duplicate_rows"],
        },
        verdict=f"{fit} of {rows} rows are fit to train on" + (f"; {rows - fit} were left out." if fit < rows else "."),
        tables=[counts, problems],
        figures=[
            Figure(title="Length of rows", type="histogram", x_label="characters, from", y_label="rows", series=[lengths])
        ],
        data=report,
    )
