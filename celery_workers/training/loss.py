"""The loss: cross entropy in float32, summed over the supervised tokens."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from celery_workers.modeling.precision import Precision
from celery_workers.training.batches import Batch


def summed_loss(model: torch.nn.Module, batch: Batch, *, can_join: bool, precision: Precision) -> torch.Tensor:
    """Return the sum of the cross entropies of the supervised tokens, () float32.

    A sum, so that micro-batches of any size add up: divided by the supervised tokens of the whole step, 8 micro-batches
    of 1 row train exactly like 1 of 8. The head runs on the S supervised positions only: logits are (1, S, V).
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
    return F.cross_entropy(logits[0].float(), batch.targets, reduction="sum")


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which float32 adapters meet a base in ``precision``."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
