"""The training, to be read from top to bottom: set up, loop, save.

``train`` restores from a checkpoint everything that a step depends on: weights, optimizer moments, the generators' states
(dropout), the step (which gives the rows' order and the learning rate), the number type and the history. On the CPU, with
the same number of threads, a resumed training gives the same bits as an unbroken one.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from celery_workers.contract.context import AgentContext
from celery_workers.contract.errors import ResourceError, UserInputError
from celery_workers.modeling.device import peak_memory_bytes
from celery_workers.training.batches import Indices, MicroBatch, collate, epoch_batches, length_sorted_batches
from celery_workers.training.checkpoint import save_checkpoint
from celery_workers.training.config import TrainingConfig
from celery_workers.training.loss import ask
from celery_workers.training.objectives import OBJECTIVES, Share, Totals
from celery_workers.training.optimizer import learning_rate_at, set_learning_rate
from celery_workers.training.setup import Training, set_up
from celery_workers.training.sources import Sources

EVAL_TOKENS_PER_BATCH = 2048


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One optimizer step. ``loss`` is per supervised token, in nats; ``grad_norm`` is that before clipping."""

    loss: float
    grad_norm: float
    tokens: int
    supervised_tokens: int

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


def train(ctx: AgentContext, config: TrainingConfig, sources: Sources) -> Training:
    """Train an adapter to the end of its plan and return it in evaluation mode.

    Raises: UserInputError: model, data and config do not go together, or the loss is no longer finite. ResourceError: out
    of memory. Canceled: told to stop; a checkpoint was handed over before.
    """
    try:
        training = set_up(ctx, config, sources)
        run_steps(training)
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            f"out of memory: {error}; lower tokens_per_batch or batch_size, or set gradient_checkpointing", code="out_of_memory"
        ) from error
    training.model.eval()
    return training


# --- loop ------------------------------------------------------------------------------------------------------------


def run_steps(training: Training) -> None:
    """Run every step that is left, with evaluations and checkpoints between them.

    Raises: Canceled: told to stop; the checkpoint of the last finished step was handed over. UserInputError: see ``_step``.
    """
    ctx, config, plan = training.ctx, training.config, training.plan
    step, saved_step, saved_at = training.first_step, training.first_step, time.monotonic()
    epoch, epoch_steps = -1, list[list[Indices]]()
    while True:
        if _is_evaluation_due(training, step):
            _evaluate(training, step)
        is_stopping = ctx.is_stopping
        if step > saved_step and (is_stopping or _is_checkpoint_due(training, step, saved_at)):
            _save(training, step)
            saved_step, saved_at = step, time.monotonic()
        if is_stopping:
            ctx.check_canceled()
        if step == plan.total_steps:
            return

        step_epoch, place = plan.epoch_of(step)
        if step_epoch != epoch:
            epoch = step_epoch
            epoch_steps = epoch_batches(training.rows.lengths, config, seed=training.seed, epoch=epoch)
        rate = learning_rate_at(step, config, total_steps=plan.total_steps)
        started = time.perf_counter()
        result = _step(training, epoch_steps[place], learning_rate=rate)
        step += 1
        _record(training, result, step=step, learning_rate=rate, seconds=time.perf_counter() - started)
        if not result.is_finite:
            raise _not_finite(training, result, epoch_steps[place], step=step, saved_step=saved_step)


def _step(training: Training, micro_batches: Sequence[Indices], *, learning_rate: float) -> StepResult:
    """Run forward and backward over the micro-batches, then the optimizer once, unless loss or gradient is not finite."""
    training.model.train()
    batches = _collate(training, micro_batches)
    totals = Totals(supervised_tokens=sum(batch.supervised_tokens for batch in batches))
    total = torch.zeros((), device=training.device)
    for batch in batches:
        share = _share(training, batch, totals)
        share.loss.backward()
        total += share.loss.detach()
    grad_norm = torch.nn.utils.clip_grad_norm_(training.parameters.values(), training.config.max_grad_norm)
    result = StepResult(
        loss=total.item(),
        grad_norm=grad_norm.item(),
        tokens=sum(batch.tokens for batch in batches),
        supervised_tokens=totals.supervised_tokens,
    )
    if result.is_finite:
        set_learning_rate(training.optimizer, learning_rate)
        training.optimizer.step()
    training.optimizer.zero_grad(set_to_none=True)
    return result


def _collate(training: Training, micro_batches: Sequence[Indices]) -> list[MicroBatch]:
    return [
        batch
        for indices in micro_batches
        for batch in collate(training.rows, indices, training.device, can_join=training.can_join)
    ]


def _share(training: Training, batch: MicroBatch, totals: Totals) -> Share:
    logprobs = ask(training.model, can_join=training.can_join, precision=training.precision)
    return OBJECTIVES[training.config.objective](logprobs, batch, totals, training.config)


def _record(training: Training, result: StepResult, *, step: int, learning_rate: float, seconds: float) -> None:
    history, plan = training.history, training.plan
    history.losses.append(result.loss)
    history.learning_rates.append(learning_rate)
    history.grad_norms.append(result.grad_norm)
    history.tokens += result.tokens
    history.supervised_tokens += result.supervised_tokens
    history.seconds += seconds
    training.ctx.metric(
        "Training step completed",
        step=step,
        epoch=round(plan.epochs_done(step), 4),
        loss=result.loss,
        learning_rate=learning_rate,
        grad_norm=result.grad_norm,
        tokens_per_second=result.tokens / seconds,
        supervised_tokens=result.supervised_tokens,
        memory_bytes=peak_memory_bytes(training.device),
    )
    training.ctx.progress(step / plan.total_steps, step=step, total_steps=plan.total_steps)


def _not_finite(
    training: Training, result: StepResult, micro_batches: Sequence[Indices], *, step: int, saved_step: int
) -> UserInputError:
    numbers = [int(number) for indices in micro_batches for number in training.rows.row_numbers[indices]]
    last_good = f"the last good checkpoint is of step {saved_step}" if saved_step else "there is no checkpoint yet"
    return UserInputError(
        f"step {step} gave loss {result.loss} and gradient norm {result.grad_norm}, which must be finite; {last_good};"
        f" lower the learning rate ({training.config.learning_rate}) or look at rows {', '.join(map(str, numbers[:10]))}",
        code="not_finite",
        field="learning_rate",
        evidence={"step": step, "row_numbers": numbers[:100], "checkpoint_step": saved_step},
    )


# --- between steps ---------------------------------------------------------------------------------------------------


def _is_evaluation_due(training: Training, step: int) -> bool:
    if training.eval_rows is None or step == 0 or training.history.is_evaluated(step):
        return False
    every = training.config.eval_every_steps
    return step == training.plan.total_steps or (step % every == 0 if every else training.plan.ends_epoch(step))


def _evaluate(training: Training, step: int) -> None:
    """Measure the loss on the evaluation rows, or leave it for the resume if told to stop meanwhile."""
    rows = training.eval_rows
    if rows is None:
        return
    training.model.eval()
    loss, totals = 0.0, Totals(supervised_tokens=rows.supervised_tokens)
    with torch.no_grad():
        for indices in length_sorted_batches(rows.lengths, budget=EVAL_TOKENS_PER_BATCH):
            if training.ctx.is_stopping:
                return
            batches = collate(rows, indices, training.device, can_join=training.can_join)
            loss += sum(_share(training, batch, totals).loss.item() for batch in batches)
    training.history.eval_steps.append(step)
    training.history.eval_losses.append(loss)
    epoch = round(training.plan.epochs_done(step), 4)
    training.ctx.metric("Evaluation completed", step=step, epoch=epoch, eval_loss=loss)


def _is_checkpoint_due(training: Training, step: int, saved_at: float) -> bool:
    """A training at its end needs none: its outputs follow at once."""
    every = training.config.checkpoint_every_steps
    is_due = time.monotonic() - saved_at >= training.config.checkpoint_every_seconds or (every and step % every == 0)
    return bool(is_due) and step < training.plan.total_steps


def _save(training: Training, step: int) -> None:
    """Write a checkpoint and hand it over; once the platform has it, this machine need not keep it."""
    folder = training.ctx.workdir / "checkpoints" / f"step-{step:08d}"
    save_checkpoint(
        folder,
        step=step,
        parameters=training.parameters,
        optimizer=training.optimizer,
        history=training.history,
        precision=training.precision,
        identity=training.identity,
    )
    training.ctx.checkpoint(folder, step=step)
    shutil.rmtree(folder)
