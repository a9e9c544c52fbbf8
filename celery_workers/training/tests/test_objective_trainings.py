"""Whole trainings with each objective, and those that stop by themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from celery_workers.contract import Canceled, UserInputError
from celery_workers.training.config import TrainingConfig
from celery_workers.training.loop import train
from celery_workers.training.outputs import make_report
from celery_workers.training.setup import Training
from celery_workers.training.sources import Sources
from celery_workers.training.tests.conftest import StoringContext, write_examples, write_kto, write_pairs

MakeContext = Callable[..., StoringContext]

CONFIG = TrainingConfig(
    epochs=3,
    batch_size=2,
    gradient_accumulation=2,
    learning_rate=0.02,
    lora_r=4,
    lora_dropout=0.2,
    target_modules="all-linear",
    precision="float32",
    checkpoint_every_seconds=1000,
)


@pytest.fixture
def make_sources(tmp_path: Path, tiny_model_folder: Path) -> Callable[[str], Sources]:
    """Make eight training examples and four evaluation examples that fit an objective."""

    def make(objective: str) -> Sources:
        def write(name: str, count: int, seed: int) -> object:
            folder, base = tmp_path / f"{objective}-{name}", tiny_model_folder
            if objective in ("dpo", "orpo"):
                return write_pairs(folder, pairs=count, seed=seed, base_folder=base)
            if objective == "kto":
                return write_kto(folder, rows=count, seed=seed, base_folder=base)
            return write_examples(folder, lengths=[9, 20, 5, 33, 12, 7, 16, 25][:count], seed=seed, base_folder=base)

        return Sources(base_folder=tiny_model_folder, examples=write("examples", 8, 0), eval_examples=write("eval", 4, 1))

    return make


def same_bits(one: Training, other: Training) -> bool:
    histories = [
        (item.history.losses, item.history.grad_norms, item.history.eval_losses, item.history.metrics) for item in (one, other)
    ]
    return histories[0] == histories[1] and all(
        torch.equal(parameter, other.parameters[name]) for name, parameter in one.parameters.items()
    )


@pytest.mark.parametrize("objective", ["pretraining", "dpo", "orpo", "kto"])
def test_each_objective_learns_and_resumes_with_the_same_bits(
    objective: str, make_sources: Callable[[str], Sources], make_context: MakeContext
) -> None:
    sources, config = make_sources(objective), CONFIG.model_copy(update={"objective": objective, "beta": 0.5})
    context = make_context()
    unbroken = train(context, config, sources)
    assert unbroken.history.losses[-1] < unbroken.history.losses[0]

    stopped = make_context(cancel_after_checks=5)
    with pytest.raises(Canceled):
        train(stopped, config, sources)
    (saved,) = stopped.checkpoints
    assert 0 < saved.step < unbroken.plan.total_steps
    resumed = train(make_context(resume_from=stopped.store / str(saved.step)), config, sources)
    assert same_bits(resumed, unbroken)

    report = make_report(unbroken, base_model="local:tiny")
    assert set(unbroken.history.metrics) <= set(report.summary)
    assert {f"eval_{name}" for name in unbroken.history.metrics} <= set(context.metrics[-1].data) or objective == "pretraining"


def test_dpo_begins_at_log_two_and_comes_to_prefer_the_chosen(
    make_sources: Callable[[str], Sources], make_context: MakeContext
) -> None:
    config = CONFIG.model_copy(update={"objective": "dpo", "lora_dropout": 0.0, "epochs": 6})
    training = train(make_context(), config, make_sources("dpo"))
    assert training.history.losses[0] == pytest.approx(math.log(2), rel=1e-5)
    assert training.history.metrics["reward_margin"][0] == pytest.approx(0, abs=1e-5)
    assert training.history.metrics["reward_margin"][-1] > 0
    assert training.history.metrics["reward_accuracy"][-1] == 1.0


@pytest.mark.parametrize("objective", ["dpo", "orpo", "kto"])
def test_how_a_step_is_cut_changes_no_result(
    objective: str, make_sources: Callable[[str], Sources], make_context: MakeContext
) -> None:
    sources = make_sources(objective)
    config = CONFIG.model_copy(update={"objective": objective, "lora_dropout": 0.0, "epochs": 1})
    whole = train(make_context(), config.model_copy(update={"batch_size": 4, "gradient_accumulation": 1}), sources)
    single = train(make_context(), config.model_copy(update={"batch_size": 1, "gradient_accumulation": 4}), sources)
    assert single.history.losses == pytest.approx(whole.history.losses, rel=1e-5)
    assert single.history.grad_norms == pytest.approx(whole.history.grad_norms, rel=1e-4)
    for name, values in whole.history.metrics.items():
        for one, other in zip(single.history.metrics[name], values, strict=True):  # None: a step without such answers
            assert one is other is None or one == pytest.approx(other, rel=1e-4, abs=1e-5), name


def test_training_stops_when_the_evaluation_loss_falls_no_more_and_gives_the_best(
    make_sources: Callable[[str], Sources], make_context: MakeContext
) -> None:
    sources = make_sources("sft")  # random rows: what is learned of some says nothing of others
    changes = {
        "epochs": 30,
        "early_stopping_patience": 3,
        "load_best_at_end": True,
        "eval_every_steps": 1,
        "learning_rate": 0.05,
    }
    context = make_context()
    training = train(context, CONFIG.model_copy(update=changes), sources)
    history = training.history
    best = history.best_evaluation()
    assert len(history.losses) == best + 3 < training.plan.total_steps
    assert context.fractions[-1] == 1.0
    report = make_report(training, base_model="local:tiny")
    assert (report.summary["result_step"], report.summary["eval_loss"]) == (best, min(history.eval_losses))
    assert f"after step {best}" in report.verdict

    config = CONFIG.model_copy(update={**changes, "schedule": "constant", "warmup_fraction": 0.0})
    stopped_early = train(make_context(), config, sources)
    best = stopped_early.history.best_evaluation()
    until_best = train(make_context(), config.model_copy(update={"max_steps": best}), sources)
    assert all(torch.equal(item, until_best.parameters[name]) for name, item in stopped_early.parameters.items())


def test_diverging_loss_stops_with_its_rows_and_the_checkpoint_before(
    make_sources: Callable[[str], Sources], make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    from celery_workers.training import loop

    rates = iter([0.001] * 14 + [30.0] * 90)
    monkeypatch.setattr(loop, "learning_rate_at", lambda step, config, total_steps: next(rates))
    config = CONFIG.model_copy(
        update={
            "epochs": 30,
            "divergence_factor": 1.05,
            "divergence_steps": 4,
            "checkpoint_every_steps": 5,
            "keep_checkpoints": 4,
        }
    )
    context = make_context()
    with pytest.raises(UserInputError, match=r"above 1\.05 times the median") as caught:
        train(context, config, make_sources("sft"))
    evidence = caught.value.evidence
    assert evidence["step"] - evidence["first_step"] == 3
    assert evidence["first_step"] >= 15
    assert evidence["checkpoint_step"] == (evidence["first_step"] - 1) // 5 * 5
    assert 1 <= len(evidence["row_numbers"]) <= 4
    assert {checkpoint.keep for checkpoint in context.checkpoints} == {4}
