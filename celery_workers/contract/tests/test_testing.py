"""``run_agent`` runs an agent as the platform would; ``check_agent`` finds agents that break the contract."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from celery_workers.agents import registry
from celery_workers.contract import AgentSpec, BugError, Canceled, Dataset, UserInputError
from celery_workers.contract.agent import describe
from celery_workers.contract.testing import RecordedMetric, RecordingContext, check_agent, run_agent
from celery_workers.contract.tests.sample import SampleAgent, SampleOutputs

SPEC = describe(SampleAgent, name="sample")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    folder = tmp_path / "rows"
    folder.mkdir()
    return Dataset(path=folder)


@pytest.fixture
def context(tmp_path: Path) -> RecordingContext:
    workdir = tmp_path / "work"
    workdir.mkdir()
    return RecordingContext(workdir=workdir, references={"bundled:tiny": tmp_path})


def test_what_the_agent_says_is_recorded(context: RecordingContext, dataset: Dataset) -> None:
    outputs = run_agent(SampleAgent, {"rows": 2}, {"dataset": dataset}, context=context)
    assert isinstance(outputs, SampleOutputs)
    assert sorted(path.name for path in outputs.examples.path.iterdir()) == ["0.txt", "1.txt"]
    assert context.metrics[1] == RecordedMetric(message="row", step=2, epoch=None, loss="nan", data={"rows_per_second": 1.0})
    assert context.logs[0].data["reports"] == 0
    assert context.checkpoints[0].step == 2
    assert context.fractions == [1.0]


def test_the_agent_can_be_canceled_after_so_many_checks(context: RecordingContext, dataset: Dataset) -> None:
    context.cancel_after_checks = 2
    with pytest.raises(Canceled):
        run_agent(SampleAgent, {"rows": 9}, {"dataset": dataset}, context=context)
    assert len(context.metrics) == 2


@pytest.mark.parametrize("returns", ["wrong kind", "missing path", "outside", "nothing", "a dict"])
def test_outputs_that_break_the_contract_are_refused(returns: str, context: RecordingContext, dataset: Dataset) -> None:
    with pytest.raises(BugError) as caught:
        run_agent(SampleAgent, {"returns": returns}, {"dataset": dataset}, context=context)
    assert caught.value.code == "invalid_output"


def test_an_unresolved_reference_is_the_users_error(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(UserInputError, match="bundled:tiny"):
        run_agent(SPEC, {}, {"dataset": dataset}, workdir=tmp_path)


def test_a_good_agent_passes_the_contract() -> None:
    check_agent(SPEC)


def test_a_field_without_description_is_found() -> None:
    class Bare(SPEC.config_class):  # type: ignore[name-defined,misc]
        silent: int = 1

    with pytest.raises(AssertionError, match="'silent' needs a description"):
        check_agent(dataclasses.replace(SPEC, config_class=Bare))


def test_a_heavy_import_is_found() -> None:
    heavy = type("HeavyAgent", (), {"__module__": "pyarrow.lib"})
    with pytest.raises(AssertionError, match=r"must not import .*pyarrow"):
        check_agent(dataclasses.replace(SPEC, agent_class=heavy))


@pytest.mark.parametrize("spec", registry().values(), ids=lambda spec: spec.class_name)
def test_every_agent_of_the_registry_keeps_the_contract(spec: AgentSpec) -> None:
    check_agent(spec)
