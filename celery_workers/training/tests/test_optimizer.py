from __future__ import annotations

from pathlib import Path

import pytest
import torch

from celery_workers.training.checkpoint import Identity, open_checkpoint, restore, save_checkpoint
from celery_workers.training.config import TrainingConfig
from celery_workers.training.history import History
from celery_workers.training.optimizer import learning_rate_at, make_optimizer
from celery_workers.training.recovery import MemoryUse
from celery_workers.training.reference import References

IDENTITY = Identity(examples="e", eval_examples="", base_model="b", first_adapter="", config={}, seed=5, versions={})


def rates(schedule: str, *, warmup_fraction: float, total_steps: int = 10) -> list[float]:
    config = TrainingConfig(schedule=schedule, warmup_fraction=warmup_fraction, learning_rate=1.0)
    return [learning_rate_at(step, config, total_steps=total_steps) for step in range(total_steps)]


def test_rate_rises_over_the_warmup_then_falls_along_the_cosine() -> None:
    found = rates("cosine", warmup_fraction=0.2)
    assert found[:3] == [0.5, 1.0, 1.0]
    assert found[6] == pytest.approx(0.5)  # half of the eight steps after the warm-up
    assert found == sorted(found[:2]) + sorted(found[2:], reverse=True)
    assert 0 < found[-1] < 0.05


def test_linear_and_constant() -> None:
    assert rates("linear", warmup_fraction=0) == pytest.approx([1 - step / 10 for step in range(10)])
    assert rates("constant", warmup_fraction=0) == [1.0] * 10


def test_a_single_step_trains_at_the_full_rate() -> None:
    assert rates("cosine", warmup_fraction=0.03, total_steps=1) == [1.0]


class Descent:
    """A matrix large enough for 8-bit state, and a small vector, pulled towards fixed targets."""

    def __init__(self, optimizer: str) -> None:
        generator = torch.Generator().manual_seed(0)
        self.targets = {"matrix": torch.randn(80, 64, generator=generator), "vector": torch.randn(7, generator=generator)}
        self.parameters = {name: torch.nn.Parameter(torch.zeros_like(target)) for name, target in self.targets.items()}
        config = TrainingConfig.model_validate({"optimizer": optimizer, "learning_rate": 0.05, "weight_decay": 0.01})
        self.optimizer = make_optimizer(self.parameters.values(), config)

    def step(self, times: int) -> float:
        for _ in range(times):
            loss = sum(((self.parameters[name] - target) ** 2).sum() for name, target in self.targets.items())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return loss.item()


OPTIMIZERS = ["adamw", "adamw_8bit", "adafactor", "sgd"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_down(name: str) -> None:
    descent = Descent(name)
    assert descent.step(1) > descent.step(10)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on_from_a_checkpoint_with_the_same_bits(name: str, tmp_path: Path) -> None:
    unbroken, resumed = Descent(name), Descent(name)
    unbroken.step(3)
    save_checkpoint(
        tmp_path / "c",
        step=3,
        parameters=unbroken.parameters,
        optimizer=unbroken.optimizer,
        history=History(),
        memory=MemoryUse(),
        references=References(),
        best=None,
        precision="float32",
        identity=IDENTITY,
    )
    checkpoint = open_checkpoint(tmp_path / "c", identity=IDENTITY)
    restore(checkpoint, parameters=resumed.parameters, optimizer=resumed.optimizer)
    assert unbroken.step(4) == resumed.step(4)
    assert all(torch.equal(unbroken.parameters[key], resumed.parameters[key]) for key in unbroken.parameters)


def test_the_8_bit_state_of_a_matrix_takes_a_byte_a_weight() -> None:
    descent = Descent("adamw_8bit")
    descent.step(1)
    state = descent.optimizer.state[descent.parameters["matrix"]]
    assert (state["state1"].dtype, state["state2"].dtype) == (torch.uint8, torch.uint8)
