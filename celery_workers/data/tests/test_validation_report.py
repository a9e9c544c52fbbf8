from __future__ import annotations

from celery_workers.data import validation_report
from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.row_formats import detect_row_format
from celery_workers.data.validation_report import ReportBuilder

DETECTED = detect_row_format(["prompt", "completion"])


def row(number: int, prompt: str | None, completion: str | None = "b") -> CanonicalRow:
    return CanonicalRow(number, {"prompt": prompt, "completion": completion})


def test_every_row_is_accounted_for() -> None:
    builder = ReportBuilder(DETECTED)
    for number, prompt in enumerate(["a", None, "", "c\x07", "a", "a"], 1):
        builder.add(row(number, prompt))

    report = builder.build()

    assert (report["rows"], report["fit_rows"], report["rows_with_errors"], report["rows_with_warnings"]) == (6, 4, 2, 1)
    assert {count["code"]: (count["severity"], count["rows"], count["row_numbers"]) for count in report["counts"]} == {
        "missing_field": ("error", 1, [2]),
        "empty_field": ("error", 1, [3]),
        "control_characters": ("warning", 1, [4]),
        "duplicate_row": ("warning", 2, [5, 6]),
    }
    assert [problem["row_number"] for problem in report["problems"]] == [2, 3, 4, 5, 6]
    assert report["problems"][3]["message"] == "the same as row 1"
    assert report["problems_total"] == report["problems_shown"] == 5
    assert report["length_histogram"] == {"from": [0, 1], "rows": [0, 6]}


def test_a_row_with_two_problems_of_one_code_counts_once() -> None:
    builder = ReportBuilder(DETECTED)
    builder.add(row(1, None, None))

    report = builder.build()

    assert report["rows_with_errors"] == 1
    assert report["counts"][0]["rows"] == 1
    assert report["problems_total"] == 2


def test_samples_are_bounded_and_totals_are_not(monkeypatch) -> None:
    monkeypatch.setattr(validation_report, "PROBLEMS_PER_CODE", 3)
    monkeypatch.setattr(validation_report, "ROW_NUMBERS_PER_CODE", 5)
    builder = ReportBuilder(DETECTED)
    for number in range(1, 101):
        builder.add(row(number, None))

    report = builder.build()

    assert (report["problems_total"], report["problems_shown"], len(report["problems"])) == (100, 3, 3)
    assert report["counts"][0]["rows"] == 100
    assert report["counts"][0]["row_numbers"] == [1, 2, 3, 4, 5]
