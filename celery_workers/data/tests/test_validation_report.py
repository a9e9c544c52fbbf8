from __future__ import annotations

from celery_workers.data import report_building
from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.report_building import ReportBuilder
from celery_workers.data.row_formats import detect_row_format

DETECTED = detect_row_format(["prompt", "completion"])


def row(number: int, prompt: str | None, completion: str | None = "b") -> CanonicalRow:
    return CanonicalRow(number, {"prompt": prompt, "completion": completion})


def test_every_row_is_accounted_for() -> None:
    builder = ReportBuilder(DETECTED)
    for number, prompt in enumerate(["a", None, "", "c\x07", "a", "a"], 1):
        builder.add(row(number, prompt))

    report = builder.build()

    assert (report.rows, report.fit_rows, report.rows_with_errors, report.rows_with_warnings) == (6, 4, 2, 1)
    assert {count.code: (count.known.severity, count.rows, count.row_numbers) for count in report.counts} == {
        "missing_field": ("error", 1, [2]),
        "empty_field": ("error", 1, [3]),
        "control_characters": ("warning", 1, [4]),
        "duplicate_row": ("warning", 2, [5, 6]),
    }
    assert [problem.row_number for problem in report.problems] == [2, 3, 4, 5, 6]
    assert report.problems[3].message == "the same as row 1"
    assert report.problems_total == 5
    assert (report.length_edges, report.lengths) == ([0, 1], [0, 6])


def test_a_row_with_two_problems_of_one_code_counts_once() -> None:
    builder = ReportBuilder(DETECTED)
    builder.add(row(1, None, None))

    report = builder.build()

    assert report.rows_with_errors == 1
    assert report.counts[0].rows == 1
    assert report.problems_total == 2


def test_samples_are_bounded_and_totals_are_not(monkeypatch) -> None:
    monkeypatch.setattr(report_building, "PROBLEMS_PER_CODE", 3)
    monkeypatch.setattr(report_building, "ROW_NUMBERS_PER_CODE", 5)
    builder = ReportBuilder(DETECTED)
    for number in range(1, 101):
        builder.add(row(number, None))

    report = builder.build()

    assert (report.problems_total, len(report.problems)) == (100, 3)
    assert report.counts[0].rows == 100
    assert report.counts[0].row_numbers == [1, 2, 3, 4, 5]


def test_the_document_shows_counts_and_rows() -> None:
    builder = ReportBuilder(DETECTED)
    for number in range(1, 13):
        builder.add(row(number, None))

    document = builder.build().as_document()

    assert document.verdict == "0 of 12 rows are fit to train on; 12 were left out."
    assert document.tables[0].rows[0][:4] == ["missing_field", "error", 12, "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …"]
    assert document.tables[1].title == "Problems by row (12 of 12)"
    assert document.data["problems"][0] == {
        "row_number": 1, "field": "prompt", "code": "missing_field", "severity": "error", "message": "prompt is missing",
        "fix": "Fill in the field, or remove the row.",
    }  # fmt: skip
