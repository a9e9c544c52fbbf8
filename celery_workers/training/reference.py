"""The reference of dpo and kto: the model as the training began.

Its log-probabilities are measured once, before the first step, and kept in every checkpoint. So it makes no difference
whether adapters or all weights are trained, or an adapter is trained on, and no second model is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from celery_workers.training.batches import Indices, MicroBatch
from celery_workers.training.example_set import ExampleSet, Reference
from celery_workers.training.loss import TokenLogprobs
from celery_workers.training.objectives import row_logprobs


@dataclass(kw_only=True)
class References:
    """What the reference says of the training and of the evaluation examples; None where no objective asks for it."""

    examples: Reference | None = None
    eval_examples: Reference | None = None

    def to_tensors(self) -> dict[str, torch.Tensor]:
        """Return everything by name, for a checkpoint."""
        tensors = {}
        for name, reference in (("examples", self.examples), ("eval_examples", self.eval_examples)):
            if reference is not None:
                tensors[f"{name}/rows"] = reference.rows
                if reference.mismatched is not None:
                    tensors[f"{name}/mismatched"] = reference.mismatched
        return tensors

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor]) -> References:
        """Return what ``to_tensors`` gave."""
        found = {
            name: Reference(rows=tensors[f"{name}/rows"], mismatched=tensors.get(f"{name}/mismatched"))
            for name in ("examples", "eval_examples")
            if f"{name}/rows" in tensors
        }
        return cls(**found)


@torch.no_grad()
def measure_reference(
    logprobs: TokenLogprobs,
    examples: ExampleSet,
    batches: Sequence[Indices],
    device: torch.device,
    *,
    can_join: bool,
    before_each: Callable[[], None],
) -> Reference:
    """Ask the model, in evaluation mode, about every example. ``before_each`` is called before each of ``batches``."""
    rows = torch.zeros(len(examples.table))
    mismatched = None if examples.partners is None else torch.zeros(len(examples.table))
    for indices in batches:
        before_each()
        positions = torch.from_numpy(examples.rows[indices].ravel())
        micro = MicroBatch(
            parts=tuple(part for batch in examples.collate(indices, device, can_join=can_join) for part in batch.parts)
        )
        rows[positions] = row_logprobs(logprobs, micro).cpu()
        if mismatched is not None:
            other = examples.collate_mismatched(indices, device, can_join=can_join)
            mismatched[positions] = row_logprobs(logprobs, other).cpu()
    return Reference(rows=rows, mismatched=mismatched)


@torch.no_grad()
def mismatch_kl(
    logprobs: TokenLogprobs,
    examples: ExampleSet,
    batches: Sequence[Indices],
    reference: Reference,
    device: torch.device,
    *,
    can_join: bool,
) -> float:
    """Return how far the model has gone from the reference on the mismatched completions of ``batches``, in nats, >= 0.

    Over the whole step, so that it does not depend on how the step is cut into micro-batches.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306, section 4.1 (the estimate of the reference point).
    """
    if reference.mismatched is None:
        raise ValueError("the reference must know the mismatched completions")
    total, rows = 0.0, 0
    for indices in batches:
        positions = torch.from_numpy(examples.rows[indices].ravel())
        now = row_logprobs(logprobs, examples.collate_mismatched(indices, device, can_join=can_join)).cpu()
        total += float((now - reference.mismatched[positions]).sum(dtype=torch.float64))
        rows += len(positions)
    return max(0.0, total / rows)
