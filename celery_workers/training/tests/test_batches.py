from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from celery_workers.data.examples_file import ExamplesWriter, open_examples
from celery_workers.training.batches import epoch_batches, join, length_sorted_batches, plan_steps
from celery_workers.training.config import TrainingConfig

CPU = torch.device("cpu")


def lengths_of(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int32)


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=60),
    budget=st.one_of(st.none(), st.integers(16, 400)),
    accumulation=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_row_comes_once_an_epoch_and_budgets_hold(
    lengths: list[int], budget: int | None, accumulation: int, seed: int
) -> None:
    config = TrainingConfig(tokens_per_batch=budget, batch_size=4, gradient_accumulation=accumulation)
    steps = epoch_batches(lengths_of(lengths), config, seed=seed, epoch=0)
    batches = [batch for step in steps for batch in step]
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert all(len(step) == accumulation for step in steps[:-1])
    for batch in batches:
        tokens = sum(lengths[index] for index in batch)
        assert len(batch) <= 4 if budget is None else tokens <= budget or len(batch) == 1


def test_order_follows_from_seed_and_epoch() -> None:
    config, lengths = TrainingConfig(batch_size=1), lengths_of([5] * 20)

    def order(seed: int, epoch: int) -> list[int]:
        return [int(batch[0]) for (batch,) in epoch_batches(lengths, config, seed=seed, epoch=epoch)]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_plan_finds_epoch_and_place_of_every_step() -> None:
    lengths = lengths_of(list(range(20, 60)))
    config = TrainingConfig(epochs=3, tokens_per_batch=100)
    plan = plan_steps(lengths, config, seed=4)
    found = [plan.epoch_of(step) for step in range(plan.total_steps)]
    assert found == [(epoch, place) for epoch in range(3) for place in range(plan.epoch_steps[epoch])]
    assert [step for step in range(1, plan.total_steps + 1) if plan.ends_epoch(step)] == list(np.cumsum(plan.epoch_steps))
    assert plan.epochs_done(plan.total_steps) == 3
    assert plan_steps(lengths, config.model_copy(update={"max_steps": 5}), seed=4).total_steps == 5


def test_join_restarts_positions_and_predicts_only_within_a_row(tmp_path: Path) -> None:
    with ExamplesWriter(tmp_path) as writer:
        writer.append([11, 12, 13], [-100, 12, 13], row_number=1)
        writer.append([21, 22], [-100, 22], row_number=2)
    table = open_examples(tmp_path)
    batch = join([(table.input_ids(place), table.labels(place)) for place in (1, 0)], CPU)
    assert batch.input_ids.tolist() == [[21, 22, 11, 12, 13]]
    assert batch.position_ids.tolist() == [[0, 1, 0, 1, 2]]
    assert batch.kept.tolist() == [0, 2, 3]
    assert batch.targets.tolist() == [22, 12, 13]


def test_evaluation_batches_hold_every_row() -> None:
    batches = length_sorted_batches(lengths_of([30, 5, 8, 100, 7]), budget=40)
    assert [batch.tolist() for batch in batches] == [[1, 4, 2], [0], [3]]


def test_unknown_batch_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 16"):
        TrainingConfig(tokens_per_batch=3)
