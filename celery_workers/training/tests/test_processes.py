"""Several real processes train one model as one does, stop together, and are not missed in silence."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from celery_workers.contract import Canceled, InfrastructureError, UserInputError
from celery_workers.training.config import TrainingConfig
from celery_workers.training.loop import train
from celery_workers.training.processes import ALONE, Processes, started
from celery_workers.training.setup import Training
from celery_workers.training.sources import Sources
from celery_workers.training.tests.conftest import StoringContext

MakeContext = Callable[..., StoringContext]
CONFIG = TrainingConfig(
    epochs=2,
    batch_size=4,
    learning_rate=0.01,
    lora_r=4,
    lora_dropout=0.0,
    target_modules="all-linear",
    precision="float32",
    checkpoint_every_seconds=1000,
)
STEPS = 6  # 12 rows / 4 rows x 2 epochs


def run(context: StoringContext, config: TrainingConfig, sources: Sources) -> Training:
    with started(context, config, sources) as processes:
        return train(context, config, sources, processes=processes)


def with_processes(count: int, **settings: object) -> TrainingConfig:
    return CONFIG.model_copy(update={"processes": count, **settings})


def assert_alike(one: Training, other: Training, *, tolerance: float = 1e-5) -> None:
    assert one.history.losses == pytest.approx(other.history.losses, rel=tolerance)
    assert one.history.eval_losses == pytest.approx(other.history.eval_losses, rel=tolerance)
    assert one.history.tokens == other.history.tokens
    for name, parameter in one.parameters.items():
        torch.testing.assert_close(parameter, other.parameters[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_two_processes_train_as_one_does(sources: Sources, make_context: MakeContext, accumulation: int) -> None:
    alone = run(make_context(), with_processes(1, gradient_accumulation=accumulation), sources)
    context = make_context()
    together = run(context, with_processes(2, gradient_accumulation=accumulation), sources)
    assert_alike(together, alone)
    assert len([metric for metric in context.metrics if metric.loss is not None]) == together.plan.total_steps


def test_two_processes_resume_as_they_would_have_gone_on(sources: Sources, make_context: MakeContext) -> None:
    config = with_processes(2, lora_dropout=0.2, checkpoint_every_steps=1)
    first = make_context()
    unbroken = run(first, config, sources)
    resumed = run(make_context(resume_from=first.store / "3"), config, sources)
    assert resumed.history.losses == unbroken.history.losses
    for name, parameter in resumed.parameters.items():
        assert torch.equal(parameter, unbroken.parameters[name])


def test_all_stop_when_the_first_is_told_to_and_a_checkpoint_is_left(sources: Sources, make_context: MakeContext) -> None:
    context = make_context(cancel_after_checks=2)
    before = set(psutil.Process().children())
    with pytest.raises(Canceled):
        run(context, with_processes(2), sources)
    assert [checkpoint.step for checkpoint in context.checkpoints] == [2]
    assert set(psutil.Process().children()) <= before


def test_a_lost_process_ends_the_training_with_the_reason(sources: Sources, make_context: MakeContext) -> None:
    def kill_when_it_trains() -> None:
        while not (others := [child for child in psutil.Process().children() if "rank_process" in " ".join(child.cmdline())]):
            time.sleep(0.01)
        while not context.metrics:
            time.sleep(0.01)
        others[0].send_signal(signal.SIGKILL)

    context = make_context()
    killer = threading.Thread(target=kill_when_it_trains)
    killer.start()
    with pytest.raises(InfrastructureError, match="process of the training was lost"):
        run(context, with_processes(2, epochs=500), sources)
    killer.join()


def test_what_a_further_process_cannot_do_is_said_by_the_first(
    sources: Sources, make_context: MakeContext, tmp_path: Path
) -> None:
    """The others read the same files: here one of them finds another model in its place."""
    context, config = make_context(), with_processes(2)
    elsewhere = replace(sources, base_folder=tmp_path / "nothing")
    said = r"process 1 of the training: the base model has no config\.json"
    with pytest.raises(UserInputError, match=said), started(context, config, elsewhere) as processes:
        train(context, config, sources, processes=processes)


def test_one_process_needs_nobody(sources: Sources, make_context: MakeContext) -> None:
    with started(make_context(), with_processes(1), sources) as processes:
        assert processes is ALONE
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("count", "micro_batches", "expected"), [(1, 1, 0), (2, 1, 1), (2, 2, 0), (3, 1, 2), (8, 3, 2), (2, 5, 0)]
)
def test_micro_batches_are_cut_until_each_process_has_one(count: int, micro_batches: int, expected: int) -> None:
    processes = Processes(count=count)
    assert processes.halvings(micro_batches) == expected
    assert micro_batches * 2**expected >= count
