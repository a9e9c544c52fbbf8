"""What a training has measured so far; a resume continues it, so that curves have no hole."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class History:
    """Lists of equal length per step, and of equal length per evaluation. Losses are per supervised token, in nats."""

    losses: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    tokens: int = 0
    supervised_tokens: int = 0
    seconds: float = 0.0
    """Time spent in steps, over all attempts; evaluations and checkpoints not counted."""
    eval_steps: list[int] = field(default_factory=list)
    eval_losses: list[float] = field(default_factory=list)

    def is_evaluated(self, step: int) -> bool:
        """Whether the evaluation loss after ``step`` finished steps is known."""
        return step in self.eval_steps[-1:]
