"""The passes over examples that a training makes: gradients of a step, an evaluation, the reference. None runs out of memory
twice: see ``recovery``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from celery_workers.training.batches import Indices, MicroBatch, halve, length_sorted_batches
from celery_workers.training.example_set import ExampleSet, Reference
from celery_workers.training.loss import ask
from celery_workers.training.objectives import OBJECTIVES, Share, Totals
from celery_workers.training.recovery import within_memory
from celery_workers.training.reference import measure_reference, mismatch_kl
from celery_workers.training.setup import Training

EVAL_TOKENS_PER_BATCH = 2048

T = TypeVar("T")


class Stopped(Exception):
    """An evaluation was told to stop before its end."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One step before the optimizer. ``loss`` is the objective's mean; ``grad_norm`` is that before clipping."""

    loss: float
    grad_norm: float
    tokens: int
    supervised_tokens: int
    metrics: dict[str, float]

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The objective's mean loss and metrics over the evaluation examples."""

    loss: float
    metrics: dict[str, float]


def compute_gradients(training: Training, micro_batches: Sequence[Indices], *, step: int) -> StepResult:
    """Add up the gradients of a step's micro-batches, and clip them.

    Raises: ResourceError: a single example does not fit into memory.
    """
    examples = training.examples
    return _within_memory(
        training, examples, micro_batches, lambda pieces: _accumulate(training, examples, pieces), what=f"step {step}"
    )


def evaluate_examples(training: Training, examples: ExampleSet) -> Evaluation | None:
    """Measure the objective on ``examples`` without gradients; None if told to stop meanwhile.

    Raises: ResourceError: a single example does not fit into memory.
    """
    batches = length_sorted_batches(examples.lengths, budget=EVAL_TOKENS_PER_BATCH)
    return _within_memory(
        training,
        examples,
        batches,
        lambda pieces: _evaluate(training, examples, pieces),
        what="the evaluation",
        has_gradients=False,
    )


def measure_references(training: Training) -> None:
    """Ask the model as it is about all examples, and keep the answers in ``training.references``.

    Raises: Canceled. ResourceError: a single example does not fit into memory.
    """
    training.ctx.log("Measuring what the model says of the examples before it is trained, as the reference.")
    training.model.eval()
    training.references.examples = _measure(training, training.examples)
    if training.eval_examples is not None:
        training.references.eval_examples = _measure(training, training.eval_examples)


# --- one pass each ---------------------------------------------------------------------------------------------------


def _accumulate(training: Training, examples: ExampleSet, pieces: Sequence[Indices]) -> StepResult:
    totals = _count(training, examples, pieces, training.references.examples)
    training.model.train()
    sums = _sums(training, examples, pieces, totals, training.references.examples, has_gradients=True)
    training.processes.add_up_gradients(training.parameters.values())
    grad_norm = torch.nn.utils.clip_grad_norm_(training.parameters.values(), training.config.max_grad_norm)
    return StepResult(
        loss=sums.pop("loss"),
        grad_norm=grad_norm.item(),
        tokens=round(sums.pop("tokens")),
        supervised_tokens=totals.supervised_tokens,
        metrics=sums,
    )


@torch.no_grad()
def _evaluate(training: Training, examples: ExampleSet, pieces: Sequence[Indices]) -> Evaluation | None:
    training.model.eval()
    totals = _count(training, examples, pieces, training.references.eval_examples)
    try:
        sums = _sums(training, examples, pieces, totals, training.references.eval_examples, has_gradients=False)
    except Stopped:
        return None
    del sums["tokens"]
    return Evaluation(loss=sums.pop("loss"), metrics=sums)


def _sums(
    training: Training,
    examples: ExampleSet,
    pieces: Sequence[Indices],
    totals: Totals,
    reference: Reference | None,
    *,
    has_gradients: bool,
) -> dict[str, float]:
    """Return what ``_compute`` gives, added up over all processes."""
    processes = training.processes
    part = processes.together(lambda: _compute(training, examples, pieces, totals, reference, has_gradients=has_gradients))
    return processes.sums(part)


def _compute(
    training: Training,
    examples: ExampleSet,
    pieces: Sequence[Indices],
    totals: Totals,
    reference: Reference | None,
    *,
    has_gradients: bool,
) -> dict[str, float]:
    """Return ``loss``, ``tokens`` and the metrics of this process's part of the pieces, each summed.

    Raises: Stopped: told to, in an evaluation of one process; several stop between two steps only.
    """
    sums: dict[str, torch.Tensor | float] = {"loss": 0.0, "tokens": 0.0}
    for indices in training.processes.part(pieces):
        if not has_gradients and training.processes.count == 1 and training.ctx.is_stopping:
            raise Stopped
        for batch in examples.collate(indices, training.device, can_join=training.can_join, reference=reference):
            share = _share(training, batch, totals)
            if has_gradients:
                share.loss.backward()
            found = {"loss": share.loss.detach().double(), "tokens": torch.tensor(float(batch.tokens)), **share.metrics}
            sums |= {name: sums.get(name, 0.0) + value for name, value in found.items()}
    return {name: float(value) for name, value in sums.items()}


def _measure(training: Training, examples: ExampleSet) -> Reference:
    logprobs = ask(training.model, can_join=training.can_join, precision=training.precision)
    return _within_memory(
        training,
        examples,
        length_sorted_batches(examples.lengths, budget=EVAL_TOKENS_PER_BATCH),
        lambda pieces: measure_reference(
            logprobs,
            examples,
            pieces,
            training.device,
            can_join=training.can_join,
            before_each=training.ctx.check_canceled,
        ),
        what="the reference",
        has_gradients=False,
    )


def _share(training: Training, batch: MicroBatch, totals: Totals) -> Share:
    logprobs = ask(training.model, can_join=training.can_join, precision=training.precision)
    return OBJECTIVES[training.config.objective](logprobs, batch, totals, training.config)


def _count(training: Training, examples: ExampleSet, pieces: Sequence[Indices], reference: Reference | None) -> Totals:
    """Return what the losses of these micro-batches are averaged over."""
    kl = 0.0
    if reference is not None and reference.mismatched is not None:
        training.model.eval()
        logprobs = ask(training.model, can_join=training.can_join, precision=training.precision)
        kl = mismatch_kl(logprobs, examples, pieces, reference, training.device, can_join=training.can_join)
    return Totals(**examples.count(np.concatenate(pieces)), kl=kl)


def _within_memory(
    training: Training,
    examples: ExampleSet,
    batches: Sequence[Indices],
    work: Callable[[Sequence[Indices]], T],
    *,
    what: str,
    has_gradients: bool = True,
) -> T:
    """Return ``work`` of the batches, each cut as often as memory demands."""

    def pieces() -> list[Indices]:
        times = training.memory.halvings + training.processes.halvings(len(batches))
        return [piece for batch in batches for piece in halve(batch, examples.lengths, times=times)]

    return within_memory(
        lambda: work(pieces()),
        use=training.memory,
        can_split=lambda: any(len(piece) > 1 for piece in pieces()),
        model=training.model,
        ctx=training.ctx,
        what=what,
        has_gradients=has_gradients,
    )
