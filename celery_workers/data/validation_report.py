"""What was found in a dataset, as a bounded report. ``report_building`` makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from celery_workers.contract.context import Figure, ReportDocument, Series, Table
from celery_workers.data.row_formats import Detected
from celery_workers.data.rows import CODES, ProblemCode, RowProblem, Severity


@dataclass(frozen=True, kw_only=True)
class CodeCount:
    """How many rows have a problem of one code, and the first of their numbers."""

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
    """What was found. ``problems`` holds the first of each code, by row; ``problems_total`` says how many there are.

    ``languages`` are rows by language in a sample.
    ``lengths[i]`` rows have at least ``length_edges[i]`` characters, and less than the next edge. ``labels`` are rows by
    answer, where the answers are a few short ones; ``samples`` are excerpts in which personal data is masked.
    """

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
    length_percentiles: Mapping[str, int]
    languages: Mapping[str, int]
    splits: Mapping[str, int]
    labels: list[tuple[str, int]]
    samples: list[dict[str, object]]

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
            tables=[self._counts_table(), self._problems_table(), *self._labels_tables()],
            figures=[figure],
            samples=self.samples,
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

    def _labels_tables(self) -> list[Table]:
        total = sum(rows for _, rows in self.labels)
        rows = [[label, rows, rows / total] for label, rows in self.labels]
        return [Table(title="Labels", columns=["answer", "rows", "part of the rows"], rows=rows)] if rows else []

    @property
    def statistics(self) -> dict[str, object]:
        """The figures to show beside a version: what its rows are like."""
        return {
            "fit_rows": self.fit_rows,
            "rows_with_errors": self.rows_with_errors,
            "duplicate_rows": self.summary["duplicate_rows"],
            "characters": self.characters,
            "row_characters": dict(self.length_percentiles),
            "length_histogram": {"edges": self.length_edges, "rows": self.lengths},
            "languages_of_sample": dict(self.languages),
            "splits": dict(self.splits),
            "labels": dict(self.labels),
            "problems": {count.code: count.rows for count in self.counts},
        }

    def _data(self) -> dict[str, object]:
        return {
            "format": self.detected.format.value,
            "format_reason": self.detected.reason,
            "characters": self.characters,
            "statistics": self.statistics,
            "counts": [count.as_json() for count in self.counts],
            "problems": [problem.as_json() for problem in self.problems],
            "problems_shown": len(self.problems),
            "problems_total": self.problems_total,
        }
