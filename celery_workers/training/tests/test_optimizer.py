from __future__ import annotations

import pytest

from celery_workers.training.config import TrainingConfig
from celery_workers.training.optimizer import learning_rate_at


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
