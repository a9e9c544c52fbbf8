"""The comparison agent on evaluation reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from celery_workers.agents.comparison import ComparisonAgent
from celery_workers.contract import Report, ReportDocument, UserInputError
from celery_workers.contract.testing import RecordingContext, run_agent
from celery_workers.evaluation.subject import EvaluationData
from celery_workers.evaluation.tests.test_compare import BASE, TUNED, make_evaluation


def write(path: Path, evaluation: EvaluationData) -> Report:
    document = ReportDocument(kind="evaluation", title="Evaluation", summary={}, data=evaluation.model_dump(mode="json"))
    return Report(path=path, metadata=dict(document.write(path)))


def run(tmp_path: Path, reports: list[Report], config: dict | None = None, **context: object) -> tuple[dict, dict]:
    workdir = tmp_path / "work"
    workdir.mkdir(exist_ok=True)
    recording = RecordingContext(workdir=workdir, **context)
    outputs = run_agent(ComparisonAgent, {"resamples": 1000, **(config or {})}, {"reports": reports}, context=recording)
    return json.loads(outputs.report.path.read_text()), outputs.report.metadata


def test_two_reports_are_set_side_by_side(tmp_path: Path) -> None:
    reports = [write(tmp_path / "a.json", make_evaluation(TUNED)), write(tmp_path / "b.json", make_evaluation(BASE))]

    report, metadata = run(tmp_path, reports)

    assert report["kind"] == "comparison"
    assert report["verdict"].startswith("tuned is better: exact match +0.93, 95 % interval [0.8")
    assert metadata["verdict"] == report["verdict"]
    assert metadata["comparisons"][0]["subject_sha256"] == "sha of tuned"
    assert report["data"]["comparisons"][0]["newly_wrong_row_numbers"] == [39]
    worse = report["tables"][2]
    assert worse["title"].startswith("What got worse: 1 rows that base had right")
    assert worse["rows"] == [[39, "a", "a"]]
    bars = next(figure for figure in report["figures"] if figure["title"] == "Exact match: difference from base")
    (series,) = bars["series"]
    assert series["low"][0] < series["y"][0] < series["high"][0] <= 1


def test_one_report_with_both_models_suffices(tmp_path: Path) -> None:
    report, _ = run(tmp_path, [write(tmp_path / "a.json", make_evaluation(BASE, TUNED))])

    assert report["summary"]["tuned_exact_match_difference"] == pytest.approx(37 / 40)


def test_the_same_seed_gives_the_same_report(tmp_path: Path) -> None:
    reports = [write(tmp_path / "a.json", make_evaluation(BASE, TUNED))]

    assert run(tmp_path, reports, seed=1) == run(tmp_path, reports, seed=2)
    assert run(tmp_path, reports)[0]["data"] != run(tmp_path, reports, {"seed": 5})[0]["data"]


def test_another_kind_of_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    metadata = dict(ReportDocument(kind="validation", title="Rows", summary={}).write(path))

    with pytest.raises(UserInputError, match="takes evaluation reports, got a validation report"):
        run(tmp_path, [Report(path=path, metadata=metadata)])
