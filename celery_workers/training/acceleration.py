"""Replace a model's slow pieces by equal faster ones; each piece is tried on this very model, and left alone if it differs."""

from __future__ import annotations

import ctypes

import torch

from celery_workers.modeling.loading import vocabulary_size_of
from celery_workers.modeling.precision import Precision
from celery_workers.training.attention import build_segments
from celery_workers.training.fused_gates import fuse_gates
from celery_workers.training.fused_norms import fuse_norms
from celery_workers.training.linear_groups import fuse_linears
from celery_workers.training.loss import computing_in
from celery_workers.training.methods import TrainedModel
from celery_workers.training.trying import Draws

TRIED_LENGTHS = (7, 11)


def accelerate(model: TrainedModel, *, can_join: bool, precision: Precision) -> int:
    """Make the training of ``model`` faster in place; return how many groups of linear layers compute together.

    Draws nothing from torch's global generators. Changes results by rounding only, and which elements dropout drops.
    """
    was_training = model.training
    model.eval()
    lengths = TRIED_LENGTHS if can_join else TRIED_LENGTHS[:1]
    fuse_norms(model)
    fuse_gates(model)
    groups = fuse_linears(model, lambda: _logits(model, lengths, can_join=can_join, precision=precision))
    model.train(was_training)
    _return_freed_memory()
    return len(groups)


def _return_freed_memory() -> None:
    """Give back what the weights left free when they were laid out anew: glibc would keep it, and reuse little of it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@torch.no_grad()
def _logits(model: TrainedModel, lengths: tuple[int, ...], *, can_join: bool, precision: Precision) -> torch.Tensor:
    device = model.device
    tokens = Draws(device).tokens(sum(lengths), vocabulary_size=vocabulary_size_of(model))
    places = torch.cat([torch.arange(length, device=device) for length in lengths])
    joining = {"segments": build_segments(lengths, device)} if can_join else {}
    with computing_in(precision, device):
        return model(input_ids=tokens[None], position_ids=places[None], use_cache=False, **joining).logits[0]
