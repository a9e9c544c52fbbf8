"""Refuse what cannot be trained, before a weight is read or the device is used.

Everything is checked against the model's skeleton: the modules and ranks of the config, the adapter to train on, the rows
against context and vocabulary, and the least memory that a step with the longest row alone needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from celery_workers.contract.errors import UserInputError
from celery_workers.data.examples_file import ExamplesTable
from celery_workers.modeling.device import memory_limit_bytes
from celery_workers.modeling.loading import vocabulary_size_of
from celery_workers.modeling.skeleton import load_skeleton, max_positions_of
from celery_workers.training.config import OptimizerName, TrainingConfig
from celery_workers.training.lora import linear_layers, trainable_parameters
from celery_workers.training.methods import TrainedModel, plan_method
from celery_workers.training.rows import check_rows, check_tokenizer
from celery_workers.training.sources import Sources

NF4_BYTES = 0.516
"""4 bits a weight, 8 bits per block of 64 for its scale, 32 bits per 256 scales."""
STATE_BYTES: dict[OptimizerName, int] = {"adamw": 8, "adamw_8bit": 2, "adafactor": 0, "sgd": 0}
"""Per trained weight; what adafactor keeps per row and column is left out."""


@dataclass(frozen=True, kw_only=True)
class LeastMemory:
    """Bytes that a training holds at once whatever its batches: a lower bound. ``row`` is of the longest row by itself."""

    weights: int
    gradients: int
    optimizer: int
    row: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.row


def check_training(
    config: TrainingConfig,
    sources: Sources,
    *,
    rows: ExamplesTable,
    eval_rows: ExamplesTable | None,
    device: torch.device,
) -> None:
    """Check that model, data and config go together and can fit on ``device``.

    Raises: UserInputError: they do not; the message has the rule, the limit and the value.
    """
    skeleton = load_skeleton(sources.base_folder)
    check_tokenizer(sources.examples, sources.base_folder)
    vocabulary_size, max_positions = vocabulary_size_of(skeleton), max_positions_of(skeleton)
    check_rows(rows, vocabulary_size=vocabulary_size, max_positions=max_positions, what="examples")
    if eval_rows is not None:
        check_rows(eval_rows, vocabulary_size=vocabulary_size, max_positions=max_positions, what="evaluation examples")
    quantized = sum(inputs * outputs for inputs, outputs in linear_layers(skeleton).values()) if config.method == "qlora" else 0
    model = plan_method(skeleton, config, sources)
    least = least_memory(model, config, rows, quantized_weights=quantized)
    check_fits(least, limit_bytes=memory_limit_bytes(device), longest_tokens=int(rows.lengths.max()), config=config)


def least_memory(model: TrainedModel, config: TrainingConfig, rows: ExamplesTable, *, quantized_weights: int) -> LeastMemory:
    """Return the least memory of a training of ``model``, which may be a skeleton.

    The longest row needs one hidden state a layer (with gradient checkpointing, more without), and the logits of its
    supervised tokens with their gradients in float32.
    """
    trained = sum(parameter.numel() for parameter in trainable_parameters(model).values())
    frozen = sum(parameter.numel() for parameter in model.parameters()) - trained - quantized_weights
    bytes_each = 4 if config.method == "full" or config.precision == "float32" else 2
    longest = int(np.argmax(rows.lengths))
    text = model.config.get_text_config()
    hidden = (
        int(rows.lengths[longest]) * text.hidden_size * text.num_hidden_layers * (2 if config.precision != "float32" else 4)
    )
    logits = int(rows.supervised_counts[longest]) * vocabulary_size_of(model) * 8
    return LeastMemory(
        weights=4 * trained + bytes_each * frozen + int(NF4_BYTES * quantized_weights),
        gradients=4 * trained,
        optimizer=STATE_BYTES[config.optimizer] * trained,
        row=hidden + logits,
    )


def check_fits(least: LeastMemory, *, limit_bytes: int, longest_tokens: int, config: TrainingConfig) -> None:
    """Check that not even the least memory exceeds ``limit_bytes``.

    Raises: UserInputError: it does, with what to change.
    """
    if least.total <= limit_bytes:
        return
    raise UserInputError(
        f"one row at a time must fit into {_gigabytes(limit_bytes)} of memory; the longest, of {longest_tokens} tokens, needs"
        f" at least {_gigabytes(least.total)} by itself: weights {_gigabytes(least.weights)}, gradients"
        f" {_gigabytes(least.gradients)}, optimizer {_gigabytes(least.optimizer)}, the row {_gigabytes(least.row)};"
        f" {_advice(least, config)}",
        code="cannot_fit",
        evidence={
            "limit_bytes": limit_bytes,
            "weights_bytes": least.weights,
            "gradients_bytes": least.gradients,
            "optimizer_bytes": least.optimizer,
            "row_bytes": least.row,
        },
    )


def _advice(least: LeastMemory, config: TrainingConfig) -> str:
    if least.row > least.total / 2:
        return "lower max_length_tokens of the preprocessing step"
    if config.method == "full":
        return "use method lora, train fewer modules (train_modules), or optimizer adamw_8bit"
    return "use method qlora, or a smaller base model" if config.method == "lora" else "use a smaller base model"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
