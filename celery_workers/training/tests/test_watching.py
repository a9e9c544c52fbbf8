from __future__ import annotations

import pytest
import torch

from celery_workers.contract import UserInputError
from celery_workers.training.config import TrainingConfig
from celery_workers.training.history import History
from celery_workers.training.watching import check_can_watch, device_use, diverged, first_diverging_step, is_out_of_patience


@pytest.mark.parametrize(
    ("eval_losses", "is_out"),
    [
        ([], False),
        ([3.0, 2.0, 1.0], False),
        ([2.0, 2.1], False),
        ([2.0, 2.1, 2.2], True),
        ([2.0, 1.95, 1.92], True),  # each is lower, but by less than 0.1
        ([2.0, 2.1, 1.8, 1.9], False),
        ([2.0, float("nan"), float("nan")], True),
    ],
    ids=["none", "falling", "once", "twice", "hardly", "recovered", "nan"],
)
def test_patience_counts_evaluations_that_brought_nothing(eval_losses: list[float], is_out: bool) -> None:
    config = TrainingConfig(early_stopping_patience=2, early_stopping_min_delta=0.1)
    assert is_out_of_patience(History(eval_losses=eval_losses), config) is is_out
    assert not is_out_of_patience(History(eval_losses=eval_losses), TrainingConfig())


def test_only_a_loss_that_stays_high_diverges() -> None:
    config = TrainingConfig(divergence_factor=2.0, divergence_steps=3)
    calm = [1.0 + 0.1 * (step % 3) for step in range(20)]
    assert first_diverging_step([*calm, 9.0, 9.0], config) is None
    assert first_diverging_step([*calm, 9.0, 1.0, 9.0, 9.0], config) is None
    assert first_diverging_step([*calm, 9.0, 9.0, 9.0], config) == 21
    assert first_diverging_step([*calm, 9.0, 9.0, 9.0], TrainingConfig()) is None
    assert first_diverging_step([*calm[:9], 9.0, 9.0, 9.0], config) is None  # too short to know what is usual


def test_error_of_a_divergence_names_its_beginning_and_the_checkpoint_before_it() -> None:
    config = TrainingConfig(divergence_factor=2.0, divergence_steps=3)
    losses = [*[1.0] * 20, 9.0, 9.5, 10.0]
    error = diverged(
        first_step=21, losses=losses, config=config, learning_rate=0.5, row_numbers=[4, 7], saved_steps=[0, 10, 20, 22]
    )
    assert error.code == "diverged"
    assert "steps 21 to 23" in error.message
    assert "checkpoint is of step 20" in error.message
    assert error.evidence == {"step": 23, "first_step": 21, "row_numbers": [4, 7], "checkpoint_step": 20}


def test_best_evaluation_is_the_first_of_the_lowest() -> None:
    history = History(eval_steps=[2, 4, 6, 8], eval_losses=[float("nan"), 1.5, 1.5, 1.7])
    assert history.best_evaluation() == 4
    assert History().best_evaluation() is None


def test_metrics_of_a_step_that_has_none_are_left_open() -> None:
    history = History()
    for metrics in ({"kl": 0.1}, {"kl": 0.2, "reward": 1.0}, {"kl": 0.3}):
        history.losses.append(0.0)
        history.add_metrics(metrics)
    assert history.metrics == {"kl": [0.1, 0.2, 0.3], "reward": [None, 1.0, None]}


@pytest.mark.parametrize("setting", [{"early_stopping_patience": 1}, {"load_best_at_end": True}], ids=["patience", "best"])
def test_watching_the_evaluation_needs_evaluation_examples(setting: dict[str, object]) -> None:
    config = TrainingConfig(**setting)
    check_can_watch(config, has_evaluation=True)
    with pytest.raises(UserInputError, match=f"{next(iter(setting))} needs evaluation examples"):
        check_can_watch(config, has_evaluation=False)


def test_use_of_the_processor_is_a_share_of_the_threads() -> None:
    cpu = torch.device("cpu")
    threads = torch.get_num_threads()
    assert device_use(cpu, seconds=2.0, processor_seconds=threads * 1.0) == pytest.approx(0.5)
    assert device_use(cpu, seconds=2.0, processor_seconds=threads * 9.0) == 1.0
