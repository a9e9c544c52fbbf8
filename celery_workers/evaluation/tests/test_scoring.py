"""Losses against transformers' own, and against each other over batch sizes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from celery_workers.evaluation.rows import EvaluationRow, split_row
from celery_workers.evaluation.scoring import RowLoss, accepts, score_rows
from celery_workers.modeling.loading import load_adapter, load_base

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def score(model: PreTrainedModel, rows: list[EvaluationRow], *, batch_size: int = 4) -> list[RowLoss]:
    return score_rows(model, rows, batch_size=batch_size, pad_token_id=0, on_batch=lambda count: None)


def test_loss_of_a_row_equals_that_of_transformers(tiny_model: PreTrainedModel, rows: list[EvaluationRow]) -> None:
    import torch

    scored = score(tiny_model, rows)

    for row, loss in zip(rows, scored, strict=True):
        with torch.inference_mode():
            expected = tiny_model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss.item()
        assert loss.per_token == pytest.approx(expected, rel=1e-5)
        assert loss.supervised_tokens == row.supervised_tokens


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batch_size_does_not_change_losses(tiny_model: PreTrainedModel, rows: list[EvaluationRow], batch_size: int) -> None:
    expected = [loss.negative_log_likelihood for loss in score(tiny_model, rows, batch_size=5)]

    found = [loss.negative_log_likelihood for loss in score(tiny_model, rows, batch_size=batch_size)]

    assert found == pytest.approx(expected, rel=1e-5)


def test_a_row_without_supervised_tokens_has_no_loss(tiny_model: PreTrainedModel, rows: list[EvaluationRow]) -> None:
    silent = split_row(row_number=99, input_ids=[5, 6, 7], labels=[-100] * 3)

    scored = score(tiny_model, [rows[0], silent])

    assert scored[1] == RowLoss(negative_log_likelihood=0.0, supervised_tokens=0)
    assert scored[1].per_token is None
    assert scored[0].per_token == pytest.approx(score(tiny_model, [rows[0]])[0].per_token, rel=1e-5)


def test_a_peft_wrapper_answers_for_the_model_inside(tiny_model_folder: Path, tiny_adapter_folder: Path) -> None:
    import torch

    wrapped = load_adapter(load_base(tiny_model_folder, dtype=torch.float32), tiny_adapter_folder)

    assert accepts(wrapped, "logits_to_keep")
    assert not accepts(wrapped, "no_such_argument")


def test_an_adapter_of_zeros_scores_like_its_base(
    tiny_model: PreTrainedModel, tiny_model_folder: Path, tiny_adapter_folder: Path, rows: list[EvaluationRow]
) -> None:
    import torch

    wrapped = load_adapter(load_base(tiny_model_folder, dtype=torch.float32), tiny_adapter_folder)
    changed = [loss.negative_log_likelihood for loss in score(wrapped, rows)]
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                weight.zero_()

    zero = [loss.negative_log_likelihood for loss in score(wrapped, rows)]

    base = [loss.negative_log_likelihood for loss in score(tiny_model, rows)]
    assert zero == pytest.approx(base, rel=1e-6)
    assert changed != pytest.approx(base, rel=0.01)
