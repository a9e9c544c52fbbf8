"""What a training has measured so far; a resume continues it, so that curves have no hole."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class History:
    """Lists of equal length per step, and of equal length per evaluation. Losses are the objective's: for sft, orpo and
    pretraining per supervised token, in nats; for dpo per pair, for kto per row."""

    losses: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    metrics: dict[str, list[float | None]] = field(default_factory=dict)
    """The objective's own, per step; None where a step had none."""
    tokens: int = 0
    supervised_tokens: int = 0
    seconds: float = 0.0
    """Time spent in steps, over all attempts; evaluations and checkpoints not counted."""
    eval_steps: list[int] = field(default_factory=list)
    eval_losses: list[float] = field(default_factory=list)

    def is_evaluated(self, step: int) -> bool:
        """Whether the evaluation loss after ``step`` finished steps is known."""
        return step in self.eval_steps[-1:]

    def add_metrics(self, metrics: dict[str, float]) -> None:
        """Add the objective's metrics of the newest step, whose loss is already in ``losses``."""
        for name in metrics.keys() | self.metrics.keys():
            values = self.metrics.setdefault(name, [])
            values += [None] * (len(self.losses) - 1 - len(values))
            values.append(metrics.get(name))

    def best_evaluation(self) -> int | None:
        """Return the step after which the evaluation loss was lowest, the first of equals; None if none is finite."""
        finite = [(loss, step) for step, loss in zip(self.eval_steps, self.eval_losses, strict=True) if math.isfinite(loss)]
        return min(finite)[1] if finite else None
