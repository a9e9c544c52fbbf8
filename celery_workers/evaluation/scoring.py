"""Loss of each row under a causal language model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_workers.evaluation.rows import IGNORED, EvaluationRow, length_sorted_batches

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

    CausalLM = PreTrainedModel | PeftModel

MAX_BATCH_TOKENS = 4096  # bounds the logits: 4,096 positions of 50,000 tokens are 0.8 GB in float32


@dataclass(frozen=True, kw_only=True)
class RowLoss:
    """Sum of -log p over a row's scored tokens, in nats, and their number."""

    negative_log_likelihood: float
    supervised_tokens: int

    @property
    def per_token(self) -> float | None:
        """Loss per supervised token in nats; None where nothing is scored."""
        return self.negative_log_likelihood / self.supervised_tokens if self.supervised_tokens else None


def score_rows(
    model: CausalLM,
    rows: Sequence[EvaluationRow],
    *,
    batch_size: int,
    pad_token_id: int,
    on_batch: Callable[[int], None],
) -> list[RowLoss]:
    """Score every row by teacher forcing; the batch size changes speed and memory, not the result.

    ``on_batch`` is called after each batch with its number of rows. Log-probabilities are taken in float32 and summed in
    float64. Rows are padded on the right, where causal attention keeps the padding from everything that is scored.
    """
    import torch

    losses: dict[int, RowLoss] = {}
    lengths = [len(row.input_ids) for row in rows]
    with torch.inference_mode():
        for batch in length_sorted_batches(lengths, max_rows=batch_size, max_tokens=MAX_BATCH_TOKENS):
            scored = _score_batch(model, [rows[index] for index in batch], pad_token_id=pad_token_id)
            losses.update(zip(batch, scored, strict=True))
            on_batch(len(batch))
    return [losses[index] for index in range(len(rows))]


def _score_batch(model: CausalLM, rows: Sequence[EvaluationRow], *, pad_token_id: int) -> list[RowLoss]:
    import torch
    from torch.nn import functional

    width = max(len(row.input_ids) for row in rows)
    input_ids = torch.full((len(rows), width), pad_token_id)  # (batch, tokens) int64
    labels = torch.full((len(rows), width), IGNORED)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for index, row in enumerate(rows):
        length = len(row.input_ids)
        input_ids[index, :length] = torch.tensor(row.input_ids)
        labels[index, :length] = torch.tensor(row.labels)
        mask[index, :length] = 1
    targets = labels[:, 1:]  # the token at i is predicted from position i - 1
    positions = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)  # those that any row needs
    if not len(positions):
        return [RowLoss(negative_log_likelihood=0.0, supervised_tokens=0) for _ in rows]
    logits = _logits_at(model, input_ids.to(model.device), mask.to(model.device), positions.to(model.device))
    targets = targets[:, positions].to(logits.device)
    chosen = targets != IGNORED  # (batch, positions)
    nll = functional.cross_entropy(logits[chosen].float(), targets[chosen], reduction="none").double().cpu()
    owners = chosen.nonzero()[:, 0].cpu()
    sums = torch.zeros(len(rows), dtype=torch.float64).index_add_(0, owners, nll)
    counts = torch.bincount(owners, minlength=len(rows))
    return [
        RowLoss(negative_log_likelihood=total, supervised_tokens=count)
        for total, count in zip(sums.tolist(), counts.tolist(), strict=True)
    ]


def _logits_at(
    model: CausalLM, input_ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:  # (batch, positions, vocabulary)
    if accepts(model, "logits_to_keep"):
        logits: torch.Tensor = model(input_ids=input_ids, attention_mask=mask, logits_to_keep=positions, use_cache=False).logits
        return logits
    every: torch.Tensor = model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits
    return every[:, positions]


def accepts(model: CausalLM, argument: str) -> bool:
    """Say whether the model's forward takes ``argument``; a PEFT wrapper answers for the model inside it."""
    from peft import PeftModel

    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    return argument in inspect.signature(inner.forward).parameters
