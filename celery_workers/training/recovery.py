"""Go on when memory runs out: the same step again, in smaller pieces.

A step that runs out of memory is undone (gradients dropped, random generators put back) and done again with each micro-batch
cut in two, over and over, until its pieces are single examples; then with gradient checkpointing; then the training
fails. The optimizer sees the same step each time, because losses are averaged over the step and not over a micro-batch.
What was found out stays for the rest of the training, and is in its checkpoints.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from celery_workers.contract.context import AgentContext
from celery_workers.contract.errors import ResourceError
from celery_workers.contract.memory import is_out_of_memory
from celery_workers.training.methods import TrainedModel

T = TypeVar("T")
RandomStates = dict[str, torch.Tensor]


@dataclass(kw_only=True)
class MemoryUse:
    """How much is computed at once: each micro-batch is cut in two ``halvings`` times.

    ``failures_seen``: how many attempts killed for their memory use it has taken into account.
    """

    halvings: int = 0
    is_checkpointing: bool = False
    failures_seen: int = 0

    @property
    def pieces(self) -> int:
        """How many pieces a micro-batch is cut into, if it has as many examples."""
        return int(2**self.halvings)

    def learn_from(self, failures: int) -> bool:
        """Halve once more for each attempt that was killed since, and say whether there was one."""
        new = failures - self.failures_seen
        if new <= 0:
            return False
        self.halvings += new
        self.failures_seen = failures
        return True


def within_memory(
    work: Callable[[], T],
    *,
    use: MemoryUse,
    can_split: Callable[[], bool],
    model: TrainedModel,
    ctx: AgentContext,
    what: str,
    has_gradients: bool = True,
) -> T:
    """Return what ``work`` returns, called again with less in ``use`` each time it runs out of memory.

    ``work`` must read ``use`` anew at each call, and leave weights and optimizer as they were until nothing can fail.
    ``what`` names it in the log; ``can_split`` says whether another halving would make anything smaller.

    Raises: ResourceError: it does not fit in the smallest pieces either.
    """
    while True:
        states = random_states()
        try:
            return work()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        # Only here, outside the handler, is the traceback gone that holds every tensor of the failed work.
        _release(model, states)
        _use_less(use, reason, can_split=can_split(), model=model, ctx=ctx, what=what, has_gradients=has_gradients)


def random_states() -> RandomStates:
    """Return the states of torch's global generators."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: RandomStates) -> None:
    """Put the generators back."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def enable_checkpointing(model: TrainedModel) -> None:
    """Have the model compute its activations twice instead of keeping them."""
    base = cast("PreTrainedModel", model.get_base_model()) if isinstance(model, PeftModel) else model
    base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _release(model: TrainedModel, states: RandomStates) -> None:
    model.zero_grad(set_to_none=True)
    set_random_states(states)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _use_less(
    use: MemoryUse, reason: str, *, can_split: bool, model: TrainedModel, ctx: AgentContext, what: str, has_gradients: bool
) -> None:
    if can_split:
        use.halvings += 1
        done = f"each micro-batch is now cut into {use.pieces}; the effective batch stays the same"
    elif has_gradients and not use.is_checkpointing:
        enable_checkpointing(model)
        use.is_checkpointing = True
        done = "its micro-batches are single examples already, so activations are now computed twice (gradient checkpointing)"
    else:
        raise ResourceError(
            f"out of memory in {what}, with one example at a time{' and gradient checkpointing' if has_gradients else ''}:"
            f" {reason}; lower max_length_tokens of the preprocessing step, use method qlora, or a smaller base model",
            code="out_of_memory",
        )
    ctx.log(
        f"Out of memory in {what}: {done}.",
        level="WARNING",
        reason=reason,
        halvings=use.halvings,
        gradient_checkpointing=use.is_checkpointing,
    )
