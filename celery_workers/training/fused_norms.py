"""Root-mean-square norms with frozen weights: forward and backward in a few passes, keeping only the input.

transformers' own goes through float32 copies that autograd keeps, three times the input in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import nn

from celery_workers.training.trying import Draws, agree

TRIED_TOKENS = 5


class _Context(Protocol):
    saved_tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor]

    def save_for_backward(self, *tensors: torch.Tensor) -> None: ...


class _RootMeanSquare(torch.autograd.Function):
    """x (..., k), weight (k,), epsilon -> weight x / sqrt(mean(x^2) + epsilon); the sums are float32."""

    @staticmethod
    def forward(ctx: _Context, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        exact = x.float()
        lengths = torch.linalg.vector_norm(exact, dim=-1, keepdim=True)
        factors = lengths.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, factors)
        return (exact * factors).to(x.dtype) * weight

    @staticmethod
    def backward(ctx: _Context, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        x, weight, factors = ctx.saved_tensors
        of_normed, exact = (gradient * weight).float(), x.float()
        # d(x f) = f g - x f^3 sum(g x) / k
        sums = torch.linalg.vecdot(of_normed, exact).unsqueeze(-1)
        of_x = (of_normed * factors).addcmul_(exact, sums * factors**3, value=-1 / x.shape[-1])
        return of_x.to(x.dtype), None, None


def fuse_norms(model: nn.Module) -> int:
    """Let frozen root-mean-square norms of ``model`` compute that way; return how many.

    A norm is known by its class's name, and tried on random numbers: one that computes otherwise is left alone.
    """
    return sum(_fuse(module) for module in model.modules() if type(module).__name__.endswith("RMSNorm"))


def _fuse(norm: nn.Module) -> bool:
    epsilon = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    parameters = list(norm.parameters())
    if not isinstance(epsilon, float) or len(parameters) != 1 or parameters[0].requires_grad or parameters[0].ndim != 1:
        return False
    weight = parameters[0]
    if weight.device.type == "meta" or not agree(
        _outputs_and_gradients(partial(_normalize, weight, epsilon), weight),
        _outputs_and_gradients(norm, weight),
        computed_in=weight.dtype,
    ):
        return False
    norm.forward = partial(_normalize, weight, epsilon)
    return True


def _normalize(weight: torch.Tensor, epsilon: float, x: torch.Tensor) -> torch.Tensor:
    return _RootMeanSquare.apply(x, weight, epsilon)


def _outputs_and_gradients(norm: Callable[[torch.Tensor], torch.Tensor], weight: torch.Tensor) -> list[torch.Tensor]:
    """Try large numbers, and such small ones that epsilon matters."""
    draws, found = Draws(weight.device), []
    for scale in (1.0, 1e-3):
        x = draws.normal(TRIED_TOKENS, len(weight), dtype=weight.dtype).mul_(scale).requires_grad_()
        with torch.enable_grad():
            output = norm(x)
            found += [output.detach(), *torch.autograd.grad(output, x, draws.normal(*output.shape, dtype=output.dtype))]
    return found
