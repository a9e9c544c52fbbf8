"""Gated layers, ``down(silu(gate(x)) * up(x))``, that keep gate and up only: autograd keeps the activation as well.

Source of the layer: Shazeer 2020, arXiv:2002.05202 (SwiGLU).
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

from celery_workers.training.trying import Draws, agree

TRIED_TOKENS = 5
PARTS = ("gate_proj", "up_proj", "down_proj")


class _Context(Protocol):
    saved_tensors: tuple[torch.Tensor, torch.Tensor]

    def save_for_backward(self, *tensors: torch.Tensor) -> None: ...


class _Gated(torch.autograd.Function):
    """gate and up (..., k) -> silu(gate) * up."""

    @staticmethod
    def forward(ctx: _Context, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: _Context, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient * up, gate), F.silu(gate).mul_(gradient)


def fuse_gates(model: nn.Module) -> int:
    """Let gated layers of ``model`` compute that way; return how many.

    A layer is known by the names of its parts, and tried on random numbers: one that computes otherwise is left alone.
    """
    return sum(_fuse(module) for module in model.modules() if all(part in dict(module.named_children()) for part in PARTS))


def _fuse(layer: nn.Module) -> bool:
    weight, width = next(layer.parameters()), getattr(layer.get_submodule("gate_proj"), "in_features", None)
    if weight.device.type == "meta" or not weight.is_floating_point() or not isinstance(width, int):
        return False
    x = Draws(weight.device).normal(TRIED_TOKENS, width, dtype=weight.dtype)
    with torch.no_grad():
        plain = layer(x)
        layer.forward = partial(_forward, layer)
        if agree([layer(x)], [plain], computed_in=weight.dtype):
            return True
    del layer.forward
    return False


def _forward(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    gate, up, down = (layer.get_submodule(part) for part in PARTS)
    hidden: torch.Tensor = down(_Gated.apply(gate(x), up(x)))
    return hidden
