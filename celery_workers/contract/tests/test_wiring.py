"""Config, inputs and outputs of an agent are checked the same way in tests and in the agent process."""

from __future__ import annotations

from pathlib import Path

import pytest

from celery_workers.contract import BugError, Dataset, Examples, Report, UserInputError
from celery_workers.contract.agent import describe
from celery_workers.contract.messages import PortValue
from celery_workers.contract.tests.sample import SampleAgent, SampleInputs, SampleOutputs
from celery_workers.contract.wiring import build_inputs, read_config, read_outputs

SPEC = describe(SampleAgent, name="sample")
DATASET = PortValue(kind="dataset", path="/data", metadata={"rows": 2}, sha256="ab")
REPORT = PortValue(kind="report", path="/report.json")


def test_every_bad_config_field_is_named() -> None:
    with pytest.raises(UserInputError) as caught:
        read_config(SPEC, {"rows": 11, "colour": "red"})
    assert (caught.value.code, caught.value.field) == ("invalid_config", "rows")
    assert "rows: Input should be less than or equal to 10" in caught.value.message
    assert "colour: Extra inputs are not permitted" in caught.value.message


def test_inputs_are_filled_by_port() -> None:
    inputs = build_inputs(SPEC, {"dataset": [DATASET], "reports": [REPORT, REPORT]})
    report = Report(path=Path("/report.json"))
    assert inputs == SampleInputs(
        dataset=Dataset(path=Path("/data"), metadata={"rows": 2}, sha256="ab"), model=None, reports=[report, report]
    )


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "SampleAgent.dataset is required"),
        ({"dataset": [REPORT]}, "takes kind dataset, got report"),
        ({"dataset": [DATASET, DATASET]}, "takes one artifact, got 2"),
        ({"dataset": [DATASET], "colour": [REPORT]}, "no input 'colour'"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: dict[str, list[PortValue]], message: str) -> None:
    with pytest.raises(BugError, match=message):
        build_inputs(SPEC, inputs)


def test_a_relative_output_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path)
    outputs = SampleOutputs(examples=Examples(path=Path("made"), metadata={"loss": float("nan")}))
    values = read_outputs(SPEC, outputs, workdir=tmp_path)
    assert values == {"examples": [PortValue(kind="examples", path=str(tmp_path / "made"), metadata={"loss": "nan"})]}


def test_a_link_that_leads_out_of_the_workdir_is_refused(tmp_path: Path) -> None:
    (tmp_path / "made").symlink_to("/etc")
    with pytest.raises(BugError, match="below the workdir"):
        read_outputs(SPEC, SampleOutputs(examples=Examples(path=tmp_path / "made")), workdir=tmp_path)
