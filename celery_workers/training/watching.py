"""Stop a training that has gone wrong, or that no longer gets better. Everything follows from the history."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import torch

from celery_workers.contract.errors import UserInputError
from celery_workers.training.history import History
from celery_workers.training.objective_config import WatchingConfig

MEDIAN_STEPS = 50
"""The running median is that of this many losses before the ones in question, or of what there is, but at least ten."""
LEAST_MEDIAN_STEPS = 10
SHOWN_ROWS = 10


def check_can_watch(config: WatchingConfig, *, has_evaluation: bool) -> None:
    """Check that there are evaluation examples where a setting needs their loss.

    Raises: UserInputError: there are none.
    """
    asked = [name for name in ("early_stopping_patience", "load_best_at_end") if getattr(config, name)]
    if asked and not has_evaluation:
        raise UserInputError(
            f"{asked[0]} needs evaluation examples, and eval_examples is not connected; connect it, or leave the setting out",
            code="no_eval_examples",
            field=asked[0],
        )


def is_out_of_patience(history: History, config: WatchingConfig) -> bool:
    """Whether the last ``early_stopping_patience`` evaluations brought no lower loss than the best before them."""
    if config.early_stopping_patience is None:
        return False
    best, waited = math.inf, 0
    for loss in history.eval_losses:
        if loss < best - config.early_stopping_min_delta:
            best, waited = loss, 0
        else:
            waited += 1
    return waited >= config.early_stopping_patience


def first_diverging_step(losses: Sequence[float], config: WatchingConfig) -> int | None:
    """Return the 1-based step at which the loss began to diverge, if it does at the end of ``losses``.

    It does when each of the last ``divergence_steps`` losses is above ``divergence_factor`` times the median of those before
    them. A median, because one loss out of line, or a few, do not move it.
    """
    if config.divergence_factor is None:
        return None
    first = len(losses) - config.divergence_steps
    before = losses[max(0, first - MEDIAN_STEPS) : max(0, first)]
    if len(before) < LEAST_MEDIAN_STEPS:
        return None
    limit = config.divergence_factor * statistics.median(before)
    return first + 1 if all(loss > limit for loss in losses[first:]) else None


def not_finite(
    *, loss: float, grad_norm: float, step: int, learning_rate: float, row_numbers: Sequence[int], saved_steps: Sequence[int]
) -> UserInputError:
    """Return the error of a step whose loss or gradient is no number."""
    return UserInputError(
        f"step {step} gave loss {loss} and gradient norm {grad_norm}, which must be finite; {_last_good(saved_steps, step)};"
        f" lower the learning rate ({learning_rate}) or look at rows {_shown(row_numbers)}",
        code="not_finite",
        field="learning_rate",
        evidence=_evidence(step, row_numbers, saved_steps, bad_from=step),
    )


def diverged(
    *,
    first_step: int,
    losses: Sequence[float],
    config: WatchingConfig,
    learning_rate: float,
    row_numbers: Sequence[int],
    saved_steps: Sequence[int],
) -> UserInputError:
    """Return the error of a training whose loss has left for good."""
    before = losses[max(0, first_step - 1 - MEDIAN_STEPS) : first_step - 1]
    return UserInputError(
        f"the loss of steps {first_step} to {len(losses)} was above {config.divergence_factor} times the median before,"
        f" {statistics.median(before):.4g}: {losses[-1]:.4g} at the end; {_last_good(saved_steps, first_step)}; lower the"
        f" learning rate ({learning_rate}), or look at rows {_shown(row_numbers)} of step {first_step}",
        code="diverged",
        field="learning_rate",
        evidence=_evidence(len(losses), row_numbers, saved_steps, bad_from=first_step),
    )


def _evidence(step: int, row_numbers: Sequence[int], saved_steps: Sequence[int], *, bad_from: int) -> dict[str, object]:
    return {
        "step": step,
        "first_step": bad_from,
        "row_numbers": list(row_numbers[:100]),
        "checkpoint_step": _good_step(saved_steps, bad_from),
    }


def _good_step(saved_steps: Sequence[int], bad_from: int) -> int:
    return max((saved for saved in saved_steps if saved < bad_from), default=0)


def _last_good(saved_steps: Sequence[int], bad_from: int) -> str:
    good = _good_step(saved_steps, bad_from)
    return f"the last good checkpoint is of step {good}" if good else "there is no checkpoint from before"


def _shown(row_numbers: Sequence[int]) -> str:
    return ", ".join(map(str, row_numbers[:SHOWN_ROWS])) + (", …" if len(row_numbers) > SHOWN_ROWS else "")


def device_use(device: torch.device, *, seconds: float, processor_seconds: float) -> float | None:
    """Return the share of the device that was in use, 0 to 1; None where it cannot be told.

    On the CPU, the processor time of this process's threads over what they could have had; on CUDA, what the driver says of
    the last moments, which needs its Python bindings.
    """
    if device.type == "cpu":
        return min(1.0, processor_seconds / (seconds * torch.get_num_threads())) if seconds > 0 else None
    try:
        return torch.cuda.utilization(device) / 100
    except (ModuleNotFoundError, RuntimeError):
        return None
