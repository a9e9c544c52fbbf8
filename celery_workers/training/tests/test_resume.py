"""Trainings whose process is killed outright, against one that never was."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from celery_workers.training.config import TrainingConfig
from celery_workers.training.sources import Sources
from celery_workers.training.tests.killing import prepare, result_of, run_child

CONFIG = TrainingConfig(
    epochs=3,
    batch_size=2,
    gradient_accumulation=2,
    learning_rate=0.01,
    lora_r=4,
    lora_dropout=0.2,
    target_modules="all-linear",
    precision="float32",
    checkpoint_every_steps=2,
    checkpoint_every_seconds=1000,
    load_best_at_end=True,
)


@pytest.mark.timeout(900)
def test_killed_at_every_kind_of_point_equals_unbroken_bit_for_bit(tmp_path: Path, sources: Sources) -> None:
    assert sources.eval_examples is not None
    for name in ("unbroken", "killed"):
        prepare(
            tmp_path / name,
            base_folder=sources.base_folder,
            examples=sources.examples.path,
            eval_examples=sources.eval_examples.path,
            config=CONFIG,
        )
    assert run_child(tmp_path / "unbroken") == 0

    for kill in ("step:1", "save:9", "evaluation:2", "store:2", "epoch:1", "evaluation:4"):
        assert run_child(tmp_path / "killed", kill=kill) == -signal.SIGKILL, kill
    assert run_child(tmp_path / "killed") == 0

    weights, history = result_of(tmp_path / "killed")
    expected_weights, expected_history = result_of(tmp_path / "unbroken")
    assert history == expected_history
    assert weights == expected_weights
