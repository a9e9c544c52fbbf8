"""What a training will need, from the model's shapes and the rows' lengths, before a weight is read.

Memory is counted: weights, gradients and optimizer state exactly, what the largest micro-batch keeps for the backward pass by
the widths of the layers. Time is operations over the speed that the machine reaches in large products, of which a training
gets a known share. The shares and the bytes were measured: ``python -m bench.estimates`` compares them with real runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedModel

from celery_workers.contract.estimates import Estimate, JsonObject, Machine
from celery_workers.data.expected_rows import number
from celery_workers.modeling.loading import vocabulary_size_of
from celery_workers.modeling.precision import Precision
from celery_workers.modeling.skeleton import load_skeleton
from celery_workers.training.batches import epoch_batches, plan_steps
from celery_workers.training.checks import NF4_BYTES, STATE_BYTES
from celery_workers.training.config import TrainingConfig
from celery_workers.training.lora import linear_layers, trainable_parameters
from celery_workers.training.methods import plan_method
from celery_workers.training.row_lengths import expected_lengths
from celery_workers.training.sources import Sources

PROCESS_BYTES = 620e6
"""Python with torch, transformers and peft loaded."""

SHARE_OF_SPEED: Mapping[Precision, float] = {"bfloat16": 0.5, "float32": 0.6}
"""Of the speed in large products, what whole steps reach."""

KEPT_PER_WIDTH = 1.0
"""Numbers kept for the backward pass per token and per input or output of a linear layer."""

LOAD_BYTES_A_SECOND, START_SECONDS = 0.8e9, 4.0


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """What matters of a model. widths: inputs and outputs of all linear layers, summed; products: inputs x outputs, summed."""

    linear_widths: int
    linear_products: int
    hidden: int
    layers: int
    heads: int
    head_width: int
    vocabulary: int
    parameters: int
    trained: int


def estimate_training(
    config: TrainingConfig, *, folder: Path, examples: JsonObject, eval_examples: JsonObject | None, machine: Machine
) -> Estimate:
    """Return what a training of the base in ``folder`` on rows with this metadata will need.

    Raises: UserInputError: the config does not fit the base.
    """
    shapes = read_shapes(folder, config)
    precision = expected_precision(config, machine)
    lengths = expected_lengths(examples)
    if not len(lengths):
        return Estimate(notes=("The rows are not counted yet.",))
    scale = number(examples, "rows") / len(lengths)
    supervised = number(examples, "supervised_tokens") / max(1.0, number(examples, "tokens"))
    plan = plan_steps(lengths, config, seed=0)
    passes = plan.epochs_done(plan.total_steps)
    tokens = float(lengths.sum()) * scale * passes
    operations = passes * scale * step_operations(shapes, config, lengths, supervised=supervised)
    if eval_examples is not None:
        eval_lengths = expected_lengths(eval_examples)
        times = max(1.0, plan.total_steps / config.eval_every_steps if config.eval_every_steps else passes)
        operations += times * forward_operations(shapes, eval_lengths, supervised=supervised)
    speed = machine.flops.get(precision, 0.0) * SHARE_OF_SPEED[precision]
    weights = _weight_bytes(shapes, config, precision)
    return Estimate(
        seconds=operations / speed + START_SECONDS + weights / LOAD_BYTES_A_SECOND if speed else None,
        memory_bytes=round(peak_bytes(shapes, config, precision, lengths, supervised=supervised)),
        disk_bytes=round(shapes.trained * (4 + 2 * (4 + STATE_BYTES[config.optimizer]))),
        tokens=round(tokens),
        steps=round(plan.total_steps * (scale if config.max_steps is None else 1)),
        notes=() if speed else ("No worker has measured its machine yet.",),
    )


def read_shapes(folder: Path, config: TrainingConfig) -> Shapes:
    """Return the shapes of the base in ``folder`` and how many weights the config trains; reads ``config.json`` only.

    Raises: UserInputError: the config does not fit the base.
    """
    skeleton = load_skeleton(folder)
    linears = linear_layers(skeleton)
    parameters, text = _count(skeleton), skeleton.config.get_text_config()
    vocabulary = vocabulary_size_of(skeleton)
    trained = trainable_parameters(plan_method(skeleton, config, Sources(base_folder=folder, examples=None)))  # type: ignore[arg-type]
    return Shapes(
        linear_widths=sum(inputs + outputs for inputs, outputs in linears.values()),
        linear_products=sum(inputs * outputs for inputs, outputs in linears.values()),
        hidden=text.hidden_size,
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        head_width=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        vocabulary=vocabulary,
        parameters=parameters,
        trained=sum(parameter.numel() for parameter in trained.values()),
    )


def expected_precision(config: TrainingConfig, machine: Machine) -> Precision:
    """Return the number type of the training: the config's, or the one that the machine multiplies faster."""
    if config.precision != "auto":
        return config.precision
    return "bfloat16" if machine.flops.get("bfloat16", 0.0) > machine.flops.get("float32", 0.0) else "float32"


def forward_operations(shapes: Shapes, lengths: npt.NDArray[np.integer], *, supervised: float) -> float:
    """Return the multiplications and additions of one forward pass over all rows."""
    tokens, squares = float(lengths.sum()), float((lengths.astype(np.float64) ** 2).sum())
    linear = 2.0 * shapes.linear_products * tokens
    attention = 4.0 * shapes.layers * shapes.heads * shapes.head_width * squares
    return linear + attention + 2.0 * shapes.hidden * shapes.vocabulary * tokens * supervised


def step_operations(shapes: Shapes, config: TrainingConfig, lengths: npt.NDArray[np.integer], *, supervised: float) -> float:
    """Return the operations of forward and backward over all rows once; frozen weights get no gradient."""
    forward = forward_operations(shapes, lengths, supervised=supervised)
    of_weights = 2.0 * float(lengths.sum()) * (shapes.trained if config.method == "full" else 3 * shapes.trained)
    return (3 if config.gradient_checkpointing else 2) * forward + of_weights


def peak_bytes(
    shapes: Shapes,
    config: TrainingConfig,
    precision: Precision,
    lengths: npt.NDArray[np.integer],
    *,
    supervised: float,
) -> float:
    """Return the most memory at once: what stays through the training, and what the largest micro-batch adds."""
    fixed = _weight_bytes(shapes, config, precision) + shapes.trained * (4 + STATE_BYTES[config.optimizer])
    batches = [lengths[batch] for step in epoch_batches(lengths.astype(np.int32), config, seed=0, epoch=0) for batch in step]
    size = 4 if precision == "float32" else 2
    largest = max(_batch_bytes(shapes, config, batch, size=size, supervised=supervised) for batch in batches)
    return PROCESS_BYTES + fixed + largest


def _batch_bytes(
    shapes: Shapes, config: TrainingConfig, lengths: npt.NDArray[np.integer], *, size: int, supervised: float
) -> float:
    tokens, squares = float(lengths.sum()), float((lengths.astype(np.float64) ** 2).sum())
    layer = tokens * KEPT_PER_WIDTH * shapes.linear_widths / shapes.layers * size
    layer += shapes.heads * squares * (size + 4)
    hidden = tokens * shapes.hidden * size
    kept = shapes.layers * hidden + layer if config.gradient_checkpointing else shapes.layers * layer
    return kept + tokens * supervised * shapes.vocabulary * (4 + 4 + size)


def _weight_bytes(shapes: Shapes, config: TrainingConfig, precision: Precision) -> float:
    if config.method == "full":
        return 4.0 * shapes.parameters
    size = 4 if precision == "float32" else 2
    quantized = shapes.linear_products if config.method == "qlora" else 0
    return size * (shapes.parameters - quantized) + NF4_BYTES * quantized + 4.0 * shapes.trained


def _count(model: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
