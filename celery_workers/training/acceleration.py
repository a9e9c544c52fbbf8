"""Replace a model's slow pieces by equal faster ones; each piece is tried on this very model, and left alone if it differs."""

from __future__ import annotations

import ctypes
import itertools

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
RETURN_EVERY = 4
"""Forwards between two returns of memory: each costs some 60 ms, and faults on the pages of one step."""


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
    if model.device.type == "cpu":
        _keep_returning_memory(model)
    return len(groups)


def _keep_returning_memory(model: TrainedModel) -> None:
    """Return freed memory to the machine now, as the weights were laid out anew, and before every few forwards of training.

    Batches differ in shape, so that glibc's heap grows by a half within 40 steps though nothing more is in use.
    """
    forwards = itertools.count(1)

    def return_now_and_then(module: torch.nn.Module, _inputs: tuple[object, ...]) -> None:
        if module.training and next(forwards) % RETURN_EVERY == 0:
            _return_freed_memory()

    _return_freed_memory()
    model.register_forward_pre_hook(return_now_and_then)


def _return_freed_memory() -> None:
    """Let the C library give back what is free, where it can (glibc)."""
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
