"""Log-probabilities of given tokens from logits, without a float32 copy of all logits.

``-F.cross_entropy(logits.float(), targets, reduction="none")`` keeps the logits in float32, their log-softmax and the gradients
of both: four tensors of S x V. Here rows go through a block that stays in the cache, and only the logits as they came and
their gradient are kept. The softmax is in float32 all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch

BLOCK_ELEMENTS = 1 << 19
"""Logits that are float32 at once: 2 MiB."""


class _Context(Protocol):
    saved_tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor]

    def save_for_backward(self, *tensors: torch.Tensor) -> None: ...


class _TargetLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logprobs = logits.new_empty(targets.shape, dtype=torch.float32)
        for rows in _blocks(logits):
            block = torch.log_softmax(logits[rows], dim=-1, dtype=torch.float32)
            logprobs[rows] = block.gather(1, targets[rows, None])[:, 0]
        ctx.save_for_backward(logits, targets, logprobs)
        return logprobs

    @staticmethod
    def backward(ctx: _Context, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        logits, targets, logprobs = ctx.saved_tensors
        of_logits = torch.empty_like(logits)
        for rows in _blocks(logits):
            block = torch.softmax(logits[rows], dim=-1, dtype=torch.float32)
            block.scatter_(1, targets[rows, None], torch.expm1(logprobs[rows, None]))  # p - 1, exact where p is almost 1
            of_logits[rows] = block.mul_(-gradient[rows, None])
        return of_logits, None


def target_logprobs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each target, (S,) float32, in nats. logits (S, V) of any float type; targets (S,) int64."""
    return _TargetLogprobs.apply(logits, targets)


def _blocks(logits: torch.Tensor) -> Iterator[slice]:
    rows = max(1, BLOCK_ELEMENTS // logits.shape[1]) if logits.device.type == "cpu" else max(1, len(logits))
    return (slice(start, start + rows) for start in range(0, len(logits), rows))
