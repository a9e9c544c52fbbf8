"""The optimizers and the course of their learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch

from celery_workers.training.config import TrainingConfig


def make_optimizer(parameters: Iterable[torch.nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimizer of ``config``; its state is made at its first step.

    adamw: Loshchilov and Hutter 2019, arXiv:1711.05101, state in float32. adamw_8bit: Dettmers et al. 2022, arXiv:2110.02861,
    state in blocks of 256 bytes with a float32 maximum each, tensors of fewer than 4096 weights in float32. adafactor: Shazeer
    and Stern 2018, arXiv:1804.04235, a row and a column per matrix; its steps are relative to the weights' size.
    """
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "adamw_8bit":
        import bitsandbytes.optim  # a second of imports that the others need not pay

        eight_bit = bitsandbytes.optim.AdamW8bit  # type: ignore[attr-defined]
        return cast("torch.optim.Optimizer", eight_bit(parameters, lr=rate, weight_decay=decay))
    if config.optimizer == "adafactor":
        return torch.optim.Adafactor(parameters, lr=rate, weight_decay=decay)
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, weight_decay=decay)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)


def learning_rate_at(step: int, config: TrainingConfig, *, total_steps: int) -> float:
    """Return the rate of 0-based ``step``: a linear rise over the warm-up, then the schedule, which ends near 0.

    A pure function of the step, so that a resume has no schedule to restore.
    """
    warmup_steps = math.ceil(config.warmup_fraction * total_steps)
    if step < warmup_steps:
        return config.learning_rate * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    if config.schedule == "linear":
        return config.learning_rate * (1 - done)
    return config.learning_rate


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use ``rate`` for the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate
