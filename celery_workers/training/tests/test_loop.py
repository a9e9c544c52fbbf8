from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from celery_workers.contract import Canceled, InfrastructureError, UserInputError
from celery_workers.training.config import TrainingConfig
from celery_workers.training.loop import train
from celery_workers.training.setup import Training, set_up
from celery_workers.training.sources import Sources
from celery_workers.training.tests.conftest import StoringContext

MakeContext = Callable[..., StoringContext]

# dropout on, so that a resume must restore the random generators as well
CONFIG = TrainingConfig(
    epochs=2,
    batch_size=2,
    gradient_accumulation=2,
    learning_rate=0.01,
    lora_r=4,
    lora_dropout=0.2,
    target_modules="all-linear",
    precision="float32",
    checkpoint_every_seconds=1000,
)
STEPS = 6  # 12 rows / (2 rows x 2 micro-batches) x 2 epochs


def weights(training: Training) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in training.parameters.items()}


def assert_same_bits(one: Training, other: Training) -> None:
    assert one.history.losses == other.history.losses
    assert one.history.grad_norms == other.history.grad_norms
    assert one.history.eval_losses == other.history.eval_losses
    ours, theirs = weights(one), weights(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def looks_until_step(step: int) -> int:
    """Looks (is_stopping) before the one after ``step`` finished steps; an evaluation looks once per batch."""
    evaluations = step // (STEPS // CONFIG.epochs)
    return step + evaluations


def test_losses_fall_and_every_step_is_reported(sources: Sources, make_context: MakeContext) -> None:
    context = make_context()
    training = train(context, CONFIG.model_copy(update={"epochs": 8}), sources)
    steps = [metric for metric in context.metrics if metric.loss is not None]
    assert [metric.step for metric in steps] == list(range(1, 25))
    assert {"learning_rate", "grad_norm", "tokens_per_second", "supervised_tokens", "memory_bytes"} <= set(steps[0].data)
    assert sum(training.history.losses[-3:]) < sum(training.history.losses[:3])
    assert context.fractions[-1] == 1.0
    assert len(training.history.eval_losses) == 8


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(sources: Sources, make_context: MakeContext) -> None:
    first = train(make_context(), CONFIG, sources)
    again = train(make_context(), CONFIG, sources)
    other = train(make_context(), CONFIG.model_copy(update={"seed": 12}), sources)
    assert_same_bits(first, again)
    assert first.history.losses != other.history.losses


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 5])
def test_resumed_training_equals_unbroken_bit_for_bit(stop_after: int, sources: Sources, make_context: MakeContext) -> None:
    unbroken = train(make_context(), CONFIG, sources)

    stopped = make_context(cancel_after_checks=looks_until_step(stop_after))
    with pytest.raises(Canceled):
        train(stopped, CONFIG, sources)
    assert [checkpoint.step for checkpoint in stopped.checkpoints] == [stop_after]
    torch.rand(7)  # whatever else the process has drawn must not matter

    resumed = train(make_context(resume_from=stopped.store / str(stop_after)), CONFIG, sources)
    assert resumed.first_step == stop_after
    assert_same_bits(resumed, unbroken)


METHODS = {
    "dora": {"use_dora": True, "use_rslora": True},
    "saved": {"modules_to_save": ["lm_head"]},
    "qlora": {"method": "qlora"},
    "full": {"method": "full", "learning_rate": 1e-3},
    "full-8bit": {"method": "full", "learning_rate": 1e-3, "optimizer": "adamw_8bit", "gradient_checkpointing": True},
    "adafactor": {"method": "full", "optimizer": "adafactor"},
}


@pytest.mark.parametrize(("architecture", "precision"), [("llama", "float32"), ("gpt2", "bfloat16")])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_and_resumes_with_the_same_bits(
    method: str,
    architecture: str,
    precision: str,
    sources: Sources,
    make_context: MakeContext,
    architecture_folder: Callable[[str], Path],
) -> None:
    changes = {**METHODS[method], "precision": precision, "epochs": 3}
    if (architecture, method) == ("gpt2", "saved"):
        changes["modules_to_save"] = ["ln_f"]  # its head is tied to the embeddings
    config = CONFIG.model_copy(update=changes)
    here = replace(sources, base_folder=architecture_folder(architecture), eval_examples=sources.examples)
    unbroken = train(make_context(), config, here)
    assert unbroken.history.eval_losses[-1] < unbroken.history.eval_losses[0]
    stopped = make_context(cancel_after_checks=looks_until_step(4))
    with pytest.raises(Canceled):
        train(stopped, config, here)
    assert_same_bits(train(make_context(resume_from=stopped.store / "4"), config, here), unbroken)


def test_training_broken_at_every_step_equals_unbroken(sources: Sources, make_context: MakeContext) -> None:
    unbroken = train(make_context(), CONFIG, sources)
    checkpoint: Path | None = None
    for step in range(1, STEPS):
        context = make_context(resume_from=checkpoint, cancel_after_checks=1 + (step - 1 in (3,)))
        with pytest.raises(Canceled):
            train(context, CONFIG, sources)
        (saved,) = context.checkpoints
        checkpoint = context.store / str(saved.step)
    assert_same_bits(train(make_context(resume_from=checkpoint), CONFIG, sources), unbroken)


def test_stop_during_an_evaluation_leaves_it_to_the_resume(sources: Sources, make_context: MakeContext) -> None:
    unbroken = train(make_context(), CONFIG, sources)
    context = make_context(cancel_after_checks=3)  # looks before steps 1 to 3; the fourth is inside the evaluation
    with pytest.raises(Canceled):
        train(context, CONFIG, sources)
    assert [checkpoint.step for checkpoint in context.checkpoints] == [3]
    assert not [metric for metric in context.metrics if "eval_loss" in metric.data]
    assert_same_bits(train(make_context(resume_from=context.store / "3"), CONFIG, sources), unbroken)


def test_checkpoints_by_steps_and_by_time(sources: Sources, make_context: MakeContext) -> None:
    by_steps, by_time = make_context(), make_context()
    train(by_steps, CONFIG.model_copy(update={"checkpoint_every_steps": 2}), sources)
    train(by_time, CONFIG.model_copy(update={"checkpoint_every_seconds": 1e-9}), sources)
    assert [checkpoint.step for checkpoint in by_steps.checkpoints] == [2, 4]
    assert [checkpoint.step for checkpoint in by_time.checkpoints] == [1, 2, 3, 4, 5]


def test_accumulating_eight_single_rows_equals_one_batch_of_eight(sources: Sources, make_context: MakeContext) -> None:
    plain = CONFIG.model_copy(update={"lora_dropout": 0.0, "max_steps": 1})
    joined = train(make_context(), plain.model_copy(update={"batch_size": 8, "gradient_accumulation": 1}), sources)
    single = train(make_context(), plain.model_copy(update={"batch_size": 1, "gradient_accumulation": 8}), sources)
    assert joined.history.losses == pytest.approx(single.history.losses, rel=1e-6)
    assert joined.history.grad_norms == pytest.approx(single.history.grad_norms, rel=1e-5)
    ours, theirs = weights(joined), weights(single)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6)


def test_rows_that_cannot_be_joined_train_to_the_same_losses(
    sources: Sources, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = CONFIG.model_copy(update={"lora_dropout": 0.0})
    joined = train(make_context(), plain, sources)
    monkeypatch.setattr("celery_workers.training.setup.join_rows", lambda model: False)
    context = make_context()
    alone = train(context, plain, sources)
    assert not alone.can_join
    assert "cannot be joined" in context.logs[0].message
    assert joined.history.losses == pytest.approx(alone.history.losses, rel=1e-4)


def test_gradient_checkpointing_changes_no_loss(sources: Sources, make_context: MakeContext) -> None:
    plain = train(make_context(), CONFIG, sources)
    checkpointed = train(make_context(), CONFIG.model_copy(update={"gradient_checkpointing": True}), sources)
    assert checkpointed.history.losses == pytest.approx(plain.history.losses, rel=1e-5)


def test_bfloat16_follows_float32(sources: Sources, make_context: MakeContext) -> None:
    config = CONFIG.model_copy(update={"lora_dropout": 0.0})
    exact = train(make_context(), config, sources)
    rounded = train(make_context(), config.model_copy(update={"precision": "bfloat16"}), sources)
    assert rounded.history.losses == pytest.approx(exact.history.losses, rel=0.05)
    assert {parameter.dtype for parameter in rounded.parameters.values()} == {torch.float32}


def test_resume_keeps_the_precision_that_the_training_began_in(sources: Sources, make_context: MakeContext) -> None:
    config = CONFIG.model_copy(update={"precision": "auto"})
    stopped = make_context(cancel_after_checks=1)
    with pytest.raises(Canceled):
        train(stopped, config, sources)
    import json

    path = stopped.store / "1" / "checkpoint.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "precision": "float32" if manifest["precision"] == "bfloat16" else "bfloat16"}))
    assert set_up(make_context(resume_from=path.parent), config, sources).precision != manifest["precision"]


def test_changed_settings_and_data_are_refused_with_the_difference(sources: Sources, make_context: MakeContext) -> None:
    stopped = make_context(cancel_after_checks=1)
    with pytest.raises(Canceled):
        train(stopped, CONFIG, sources)
    resume_from = stopped.store / "1"
    with pytest.raises(UserInputError, match=r"learning_rate: 0\.01 -> 0\.02"):
        train(make_context(resume_from=resume_from), CONFIG.model_copy(update={"learning_rate": 0.02}), sources)
    with pytest.raises(UserInputError, match="eval_examples"):
        train(make_context(resume_from=resume_from), CONFIG, replace(sources, eval_examples=None))


def test_damaged_checkpoint_is_refused(sources: Sources, make_context: MakeContext) -> None:
    stopped = make_context(cancel_after_checks=1)
    with pytest.raises(Canceled):
        train(stopped, CONFIG, sources)
    path = stopped.store / "1" / "optimizer.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InfrastructureError, match=r"optimizer\.safetensors"):
        train(make_context(resume_from=path.parent), CONFIG, sources)


def test_loss_that_is_not_finite_stops_with_step_rows_and_checkpoint(sources: Sources, make_context: MakeContext) -> None:
    context = make_context()
    config = CONFIG.model_copy(update={"checkpoint_every_steps": 1})
    training = set_up(context, config, sources)
    from celery_workers.training.loop import run_steps

    poisoned = next(iter(training.parameters.values()))
    original = training.optimizer.step

    def step_then_poison(*arguments: object, **options: object) -> None:
        original(*arguments, **options)
        if len(training.history.losses) == 1:
            poisoned.data.fill_(float("nan"))

    training.optimizer.step = step_then_poison
    with pytest.raises(UserInputError, match="step 3 gave loss nan") as caught:
        run_steps(training)
    assert caught.value.code == "not_finite"
    assert caught.value.evidence["checkpoint_step"] == 2
    assert len(caught.value.evidence["row_numbers"]) == 4
    assert context.metrics[-1].loss == "nan"


def test_examples_of_another_tokenizer_are_refused(sources: Sources, make_context: MakeContext) -> None:
    examples = replace(sources.examples, metadata={**sources.examples.metadata, "tokenizer_digest": "other"})
    with pytest.raises(UserInputError, match="tokenized for"):
        train(make_context(), CONFIG, replace(sources, examples=examples))
