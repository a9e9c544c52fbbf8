"""What a training learns: one function per objective, from log-probabilities to a loss.

An objective sees one micro-batch at a time and returns its *share*: the shares of all micro-batches of a step add up to
the step's loss, so that 8 micro-batches of 1 example train exactly like 1 of 8. ``Totals`` holds what the step's loss is
averaged over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch

from celery_workers.training.batches import MicroBatch
from celery_workers.training.config import TrainingConfig
from celery_workers.training.loss import TokenLogprobs


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What a whole step (or evaluation) holds; at least one supervised token."""

    supervised_tokens: int


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a micro-batch adds to its step. loss () float32; metrics () float32 each, without gradient."""

    loss: torch.Tensor
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)


Objective = Callable[[TokenLogprobs, MicroBatch, Totals, TrainingConfig], Share]


def sft(logprobs: TokenLogprobs, batch: MicroBatch, totals: Totals, config: TrainingConfig) -> Share:  # noqa: ARG001
    """Cross entropy per supervised token, in nats."""
    loss = -sum_up(logprobs(part).sum() for part in batch.parts) / totals.supervised_tokens
    return Share(loss=loss)


OBJECTIVES: dict[str, Objective] = {"sft": sft}


def sum_up(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the sum of tensors of one shape; there must be one at least."""
    return torch.stack(list(tensors)).sum(0)
