from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from celery_workers.agents.validation import ValidationAgent, ValidationConfig
from celery_workers.contract import Canceled, Dataset, UserInputError
from celery_workers.contract.agent import describe
from celery_workers.contract.testing import RecordingContext, check_agent, run_agent
from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.dataset_folder import DatasetWriter
from celery_workers.data.row_formats import shape_of
from celery_workers.data.rows import RowProblem

GOOD = [CanonicalRow(number, {"prompt": f"p{number}", "completion": "c"}, {"split": "train"}) for number in range(1, 19)]
BAD = [
    CanonicalRow(19, {"prompt": "p", "completion": " "}, {"split": None}),
    CanonicalRow(
        20, {"prompt": "p", "completion": None}, {"split": None},
        [RowProblem(row_number=20, code="wrong_type", field="completion", message="completion must be text, got a number")],
    ),
]  # fmt: skip


def make_dataset(folder: Path, rows: list[CanonicalRow]) -> Dataset:
    with DatasetWriter(folder, shape_of("prompt_completion"), extras=["split"], has_problems=True) as writer:
        writer.write(rows)
    return Dataset(path=folder, metadata={"format": "prompt_completion", "rows": len(rows), "format_reason": "Found."})


def run(tmp_path: Path, rows: list[CanonicalRow], **config: object):
    context = RecordingContext(workdir=tmp_path / "work")
    context.workdir.mkdir(parents=True)
    outputs = run_agent(ValidationAgent, config, {"dataset": make_dataset(tmp_path / "in", rows)}, context=context)
    return outputs, context


def test_it_keeps_the_contract() -> None:
    check_agent(describe(ValidationAgent, name="validation"))


def test_fit_rows_pass_and_the_others_are_named(tmp_path: Path) -> None:
    outputs, context = run(tmp_path, GOOD + BAD)

    table = pq.read_table(outputs.dataset.path / "rows.parquet")
    assert table.column("row_number").to_pylist() == list(range(1, 19))
    assert table.column_names == ["row_number", "prompt", "completion", "split"]
    assert outputs.dataset.metadata["rows"] == 18
    report = json.loads(outputs.report.path.read_text())
    assert report["summary"] == {
        "rows": 20, "fit_rows": 18, "dropped_rows": 2, "rows_with_warnings": 0, "duplicate_rows": 0,
    }  # fmt: skip
    assert [(row[0], row[1], row[2]) for row in report["tables"][1]["rows"]] == [
        (19, "completion", "no_answer"),
        (20, "completion", "wrong_type"),
    ]
    assert sum(report["figures"][0]["series"][0]["y"]) == 20
    assert next(log.message for log in context.logs if log.level == "WARNING").startswith("wrong_type: 1 rows (20)")
    assert outputs.report.metadata["verdict"] == "18 of 20 rows are fit to train on; 2 were left out."


@pytest.mark.parametrize(
    ("rows", "config", "code", "field"),
    [
        (GOOD + BAD, {"max_error_fraction": 0.05}, "too_many_errors", "max_error_fraction"),
        (GOOD + BAD, {"on_error": "stop"}, "unfit_rows", "on_error"),
        (BAD, {"max_error_fraction": 1.0}, "no_fit_rows", None),
    ],
)
def test_unfit_data_stops_the_run_with_row_numbers(
    tmp_path: Path, rows: list[CanonicalRow], config: dict, code: str, field: str | None
) -> None:
    with pytest.raises(UserInputError, match="Row 19: completion is empty") as caught:
        run(tmp_path, rows, **config)

    assert (caught.value.code, caught.value.field) == (code, field)
    assert caught.value.evidence["row_numbers"] == {"no_answer": [19], "wrong_type": [20]}


def test_a_limit_stops_the_run_where_others_only_warn(tmp_path: Path) -> None:
    key = "ghp_" + "a1B2" * 9
    rows = [*GOOD, CanonicalRow(21, {"prompt": "who", "completion": f"my key is {key}"}, {"split": None})]

    outputs, _ = run(tmp_path / "warned", rows)
    assert outputs.dataset.metadata["rows"] == 19
    run(tmp_path / "allowed", rows, limits={"secret_key": 0.1})
    with pytest.raises(UserInputError, match="1 of 19 rows have secret_key") as caught:
        run(tmp_path / "stopped", rows, limits={"secret_key": 0})

    assert (caught.value.code, caught.value.field, caught.value.evidence["row_numbers"]) == ("over_limit", "limits", [21])
    assert key not in str(caught.value.evidence)
    run(tmp_path / "not looked for", rows, limits={"secret_key": 0}, find_personal_data=False)


def test_a_limit_must_name_a_known_code() -> None:
    with pytest.raises(ValueError, match="limits must name codes"):
        ValidationConfig(limits={"typo": 0})


def test_no_rows_at_all_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="no rows"):
        run(tmp_path, [])


def test_repetitions_are_said_and_kept(tmp_path: Path) -> None:
    again = CanonicalRow(99, GOOD[0].values)

    outputs, _ = run(tmp_path, [*GOOD, again])

    assert outputs.dataset.metadata["rows"] == 19
    assert json.loads(outputs.report.path.read_text())["summary"]["duplicate_rows"] == 1


def test_a_cancel_stops_it(tmp_path: Path) -> None:
    context = RecordingContext(workdir=tmp_path, cancel_after_checks=0)

    with pytest.raises(Canceled):
        run_agent(ValidationAgent, {}, {"dataset": make_dataset(tmp_path / "in", GOOD)}, context=context)
