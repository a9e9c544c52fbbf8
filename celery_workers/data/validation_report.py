"""Gather the problems of all rows into one bounded report."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from celery_workers.contract.context import Figure, ReportDocument, Series, Table
from celery_workers.data.canonical import CanonicalRow, texts
from celery_workers.data.checks import DEFAULT_MAX_CHARACTERS, check_row, is_fit
from celery_workers.data.dedup import DuplicateFinder
from celery_workers.data.row_formats import Detected
from celery_workers.data.rows import CODES, ProblemCode, RowProblem, Severity

PROBLEMS_PER_CODE = 100
ROW_NUMBERS_PER_CODE = 1000
_EDGES = [0, 1, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144, 524288, 1048576]


@dataclass(frozen=True, kw_only=True)
class CodeCount:
    """How many rows have a problem of one code, and the first ``ROW_NUMBERS_PER_CODE`` of their numbers."""

    code: str
    rows: int
    row_numbers: list[int]

    @property
    def known(self) -> ProblemCode:
        """What the code means."""
        return CODES[self.code]

    def first_rows(self) -> str:
        """Return the first few row numbers to read."""
        return ", ".join(map(str, self.row_numbers[:10])) + (", …" if self.rows > 10 else "")

    def as_json(self) -> dict[str, object]:
        """Return the entry of ``counts``."""
        return {
            "code": self.code,
            "severity": self.known.severity.value,
            "meaning": self.known.meaning,
            "fix": self.known.fix,
            "rows": self.rows,
            "row_numbers": self.row_numbers,
        }


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """What was found. ``problems`` holds the first ``PROBLEMS_PER_CODE`` of each code, by row; ``problems_total`` says how
    many there are. ``lengths[i]`` rows have at least ``length_edges[i]`` characters, and less than the next edge."""

    detected: Detected
    rows: int
    fit_rows: int
    rows_with_warnings: int
    characters: int
    counts: list[CodeCount]
    problems: list[RowProblem]
    problems_total: int
    length_edges: list[int]
    lengths: list[int]

    @property
    def rows_with_errors(self) -> int:
        """Rows that cannot be trained on."""
        return self.rows - self.fit_rows

    @property
    def errors(self) -> list[RowProblem]:
        """The problems that make rows unfit."""
        return [problem for problem in self.problems if problem.severity is Severity.ERROR]

    @property
    def summary(self) -> dict[str, int]:
        """The few numbers to show."""
        return {
            "rows": self.rows,
            "fit_rows": self.fit_rows,
            "dropped_rows": self.rows_with_errors,
            "rows_with_warnings": self.rows_with_warnings,
            "duplicate_rows": sum(count.rows for count in self.counts if count.code == "duplicate_row"),
        }

    def as_document(self) -> ReportDocument:
        """Return the report to show and to keep; ``data`` holds all of it."""
        left_out = f"; {self.rows_with_errors} were left out." if self.rows_with_errors else "."
        lengths = Series(name="rows", x=[float(edge) for edge in self.length_edges], y=[float(rows) for rows in self.lengths])
        figure = Figure(title="Length of rows", type="histogram", x_label="characters, from", y_label="rows", series=[lengths])
        return ReportDocument(
            kind="validation",
            title="Validation",
            summary=dict(self.summary),
            verdict=f"{self.fit_rows} of {self.rows} rows are fit to train on{left_out}",
            tables=[self._counts_table(), self._problems_table()],
            figures=[figure],
            data=self._data(),
        )

    def _counts_table(self) -> Table:
        return Table(
            title="Problems by code",
            columns=["code", "severity", "rows", "first rows", "meaning", "fix"],
            rows=[
                [count.code, count.known.severity.value, count.rows, count.first_rows(), count.known.meaning, count.known.fix]
                for count in self.counts
            ],
        )

    def _problems_table(self) -> Table:
        return Table(
            title=f"Problems by row ({len(self.problems)} of {self.problems_total})",
            columns=["row", "field", "code", "message", "fix"],
            rows=[[item.row_number, item.field, item.code, item.message, item.suggestion] for item in self.problems],
        )

    def _data(self) -> dict[str, object]:
        return {
            "format": self.detected.format.value,
            "format_reason": self.detected.reason,
            "characters": self.characters,
            "counts": [count.as_json() for count in self.counts],
            "problems": [problem.as_json() for problem in self.problems],
            "problems_shown": len(self.problems),
            "problems_total": self.problems_total,
        }


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
        self._characters = 0
        self._fit_rows = 0
        self.rows = 0

    def add(self, row: CanonicalRow) -> list[RowProblem]:
        """Check ``row`` and return its problems."""
        problems = check_row(row, self._detected.shape, max_characters=self._max_characters)
        length = sum(len(text) for _, text in texts(row.values, self._detected.format))
        self.rows += 1
        self._characters += length
        self._lengths[bisect_right(_EDGES, length) - 1] += 1
        if is_fit(problems):
            self._fit_rows += 1
            self._duplicates.add(row.number, row.values)
        if problems:
            self._record(problems)
            self._with_warnings += any(problem.severity is Severity.WARNING for problem in problems)
        return problems

    def build(self) -> ValidationReport:
        """Return the report. Call once, after the last row."""
        for number, first in self._duplicates.pairs():
            self._record([RowProblem(row_number=number, code="duplicate_row", field="row", message=f"the same as row {first}")])
        kept = [problem for problems in self._problems.values() for problem in problems]
        bins = 1 + max((index for index, rows in enumerate(self._lengths) if rows), default=0)
        return ValidationReport(
            detected=self._detected,
            rows=self.rows,
            fit_rows=self._fit_rows,
            rows_with_warnings=self._with_warnings,
            characters=self._characters,
            counts=[
                CodeCount(code=code, rows=self._rows_by_code[code], row_numbers=self._row_numbers[code])
                for code in CODES
                if self._rows_by_code[code]
            ],
            problems=sorted(kept, key=lambda problem: problem.row_number),
            problems_total=self._problems_total,
            length_edges=_EDGES[:bins],
            lengths=self._lengths[:bins],
        )

    def _record(self, problems: Sequence[RowProblem]) -> None:
        """Count the problems of one row."""
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
