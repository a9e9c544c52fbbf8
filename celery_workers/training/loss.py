"""Log-probabilities of the supervised tokens, from which every objective makes its loss."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

from celery_workers.modeling.precision import Precision
from celery_workers.training.batches import Batch
from celery_workers.training.target_logprobs import target_logprobs

TokenLogprobs = Callable[[Batch], torch.Tensor]
"""What an objective asks of a model: the log-probabilities (S,) float32 of a batch's supervised tokens, in nats."""


def token_logprobs(model: torch.nn.Module, batch: Batch, *, can_join: bool, precision: Precision) -> torch.Tensor:
    """Return the log-probability of each supervised token, (S,) float32, in nats.

    The head runs on the S supervised positions only: logits are (1, S, V). The softmax is in float32.
    """
    joining = {"segments": batch.segments} if can_join else {}
    with computing_in(precision, batch.input_ids.device):
        logits = model(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            logits_to_keep=batch.kept,
            use_cache=False,
            **joining,
        ).logits
    return target_logprobs(logits[0], batch.targets)


def ask(model: torch.nn.Module, *, can_join: bool, precision: Precision) -> TokenLogprobs:
    """Return ``token_logprobs`` of this model."""
    return partial(token_logprobs, model, can_join=can_join, precision=precision)


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which float32 adapters meet a base in ``precision``."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
