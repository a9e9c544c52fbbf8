"""Estimates: what must hold of any of them. How close they come to real trainings is measured by ``bench.estimates``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from celery_workers.contract import Estimate, Machine, UserInputError
from celery_workers.data.examples_metadata import length_quantiles
from celery_workers.training.config import TrainingConfig
from celery_workers.training.estimate import estimate_training, forward_operations, read_shapes
from celery_workers.training.row_lengths import MOST_ROWS, expected_lengths

MACHINE = Machine(memory_bytes=2**33, flops={"float32": 1e11, "bfloat16": 2e11})
EXAMPLES = {"rows": 100, "tokens": 20_000, "supervised_tokens": 8_000, "max_length_tokens": 500}


def estimate(folder: Path, *, examples: dict[str, object] = EXAMPLES, machine: Machine = MACHINE, **config: object) -> Estimate:
    settings = {"target_modules": "all-linear", "lora_dropout": 0, "tokens_per_batch": 1000, "lora_r": 4, **config}
    return estimate_training(TrainingConfig(**settings), folder=folder, examples=examples, eval_examples=None, machine=machine)


# Rows


@pytest.mark.parametrize("rows", [1, 7, 5_000, MOST_ROWS + 1])
def test_rows_are_laid_out_with_their_mean_and_longest(rows: int) -> None:
    lengths = expected_lengths({"rows": rows, "tokens": 80 * rows, "max_length_tokens": 700})
    assert len(lengths) == min(rows, MOST_ROWS)
    assert lengths.max() <= 700
    if rows > 1_000:
        assert lengths.mean() == pytest.approx(80, rel=0.02)
        assert lengths.max() > 690


def test_rows_are_laid_out_as_their_quantiles_say() -> None:
    real = np.random.default_rng(1).lognormal(4, 0.8, size=3_000).astype(np.int32) + 1
    metadata = {"rows": len(real), "tokens": int(real.sum()), "length_quantiles": length_quantiles(real)}
    lengths = expected_lengths(metadata)
    assert np.median(lengths) == pytest.approx(np.median(real), rel=0.05)
    assert lengths.sum() == pytest.approx(real.sum(), rel=0.05)


def test_no_rows_have_no_lengths() -> None:
    assert len(expected_lengths({})) == 0
    assert length_quantiles(np.zeros(0, dtype=np.int32)) == []


# What a training needs


def test_the_operations_are_those_of_the_layers(tiny_model_folder: Path) -> None:
    shapes = read_shapes(tiny_model_folder, TrainingConfig(target_modules="all-linear", lora_r=4))
    # two layers: q and o 32 x 32, k and v 32 x 16, gate, up and down 32 x 64
    assert shapes.linear_products == 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
    assert shapes.trained == 2 * 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))
    lengths = np.array([10, 20], dtype=np.int32)
    of_head = 2 * 32 * shapes.vocabulary * 30 * 0.5
    of_attention = 4 * 2 * 32 * (10**2 + 20**2)
    assert forward_operations(shapes, lengths, supervised=0.5) == 2 * shapes.linear_products * 30 + of_attention + of_head


def test_tokens_and_steps_follow_the_duration(tiny_model_folder: Path) -> None:
    once = estimate(tiny_model_folder)
    thrice = estimate(tiny_model_folder, epochs=3)
    short = estimate(tiny_model_folder, epochs=3, max_steps=2)
    assert once.tokens == pytest.approx(20_000, rel=0.1)
    assert (thrice.tokens, thrice.steps) == (3 * once.tokens, pytest.approx(3 * once.steps, abs=3))
    assert short.steps == 2
    assert short.tokens < once.tokens
    assert short.seconds < once.seconds < thrice.seconds


def test_memory_knows_the_method_and_the_batch(tiny_model_folder: Path) -> None:
    plain = estimate(tiny_model_folder)
    assert estimate(tiny_model_folder, tokens_per_batch=4_000).memory_bytes > plain.memory_bytes
    assert estimate(tiny_model_folder, gradient_checkpointing=True).memory_bytes < plain.memory_bytes
    assert estimate(tiny_model_folder, method="full").memory_bytes > plain.memory_bytes
    assert estimate(tiny_model_folder, precision="float32").memory_bytes > plain.memory_bytes
    assert estimate(tiny_model_folder, gradient_accumulation=8).memory_bytes == plain.memory_bytes


def test_checkpointing_takes_a_third_forward_pass(tiny_model_folder: Path) -> None:
    slow = Machine(flops={"float32": 1e6})
    plain = estimate(tiny_model_folder, machine=slow).seconds
    assert estimate(tiny_model_folder, machine=slow, gradient_checkpointing=True).seconds == pytest.approx(
        1.5 * plain, rel=0.15
    )


def test_a_machine_that_nobody_measured_gives_no_time(tiny_model_folder: Path) -> None:
    unknown = estimate(tiny_model_folder, machine=Machine())
    assert unknown.seconds is None
    assert unknown.memory_bytes is not None
    assert unknown.notes


def test_settings_that_do_not_fit_are_refused(tiny_model_folder: Path) -> None:
    with pytest.raises(UserInputError, match="target_modules must be among"):
        estimate(tiny_model_folder, target_modules="nothing")
