"""The training, to be read from top to bottom: set up, loop, save.

``train`` restores from a checkpoint everything that a step depends on: weights, optimizer moments, the generators' states
(dropout), the step (which gives the rows' order and the learning rate), the number type, the reference, how much is
computed at once, and the history. On the CPU, with the same number of threads, a resumed training gives the same bits as an
unbroken one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence

from celery_workers.contract.context import AgentContext
from celery_workers.contract.errors import ResourceError
from celery_workers.contract.memory import is_out_of_memory
from celery_workers.modeling.device import peak_memory_bytes
from celery_workers.training.batches import Indices, epoch_batches
from celery_workers.training.checkpoint import load_weights, save_checkpoint, save_weights
from celery_workers.training.config import TrainingConfig
from celery_workers.training.objectives import REFERENCED
from celery_workers.training.optimizer import learning_rate_at, set_learning_rate
from celery_workers.training.passes import StepResult, compute_gradients, evaluate_examples, measure_references
from celery_workers.training.processes import ALONE, Processes
from celery_workers.training.setup import Training, set_up
from celery_workers.training.sources import Sources
from celery_workers.training.watching import device_use, diverged, first_diverging_step, is_out_of_patience, not_finite


def train(ctx: AgentContext, config: TrainingConfig, sources: Sources, *, processes: Processes = ALONE) -> Training:
    """Train to the end of the plan, or until the evaluation loss falls no more; return the model in evaluation mode.

    Of several ``processes``, each calls this with its own place among them.

    Raises: UserInputError: model, data and config do not go together, or the loss is no longer finite or has diverged.
    ResourceError: out of memory. Canceled: told to stop; a checkpoint was handed over before.
    """
    try:
        training = set_up(ctx, config, sources, processes)
        if config.objective in REFERENCED and training.references.examples is None:
            measure_references(training)
        run_steps(training)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            f"out of memory: {error}; use method qlora, an optimizer with less state, or a smaller base model",
            code="out_of_memory",
        ) from error
    if config.load_best_at_end:
        _load_best(training)
    training.model.eval()
    return training


# --- loop ------------------------------------------------------------------------------------------------------------


def run_steps(training: Training) -> None:
    """Run every step that is left, with evaluations and checkpoints between them.

    Raises: Canceled: told to stop; the checkpoint of the last finished step was handed over. UserInputError: the loss is not
    finite, or has diverged. ResourceError: a single example does not fit into memory.
    """
    ctx, config, plan, processes = training.ctx, training.config, training.plan, training.processes
    step, saved_steps, saved_at = training.first_step, [training.first_step], time.monotonic()
    epoch, epoch_steps = -1, list[list[Indices]]()
    while True:
        if _is_evaluation_due(training, step):
            _evaluate(training, step)
        is_stopping = processes.first_says(ctx.is_stopping)
        is_done = step == plan.total_steps or is_out_of_patience(training.history, config)
        is_due = processes.first_says(_is_checkpoint_due(training, step, saved_at))
        if step > saved_steps[-1] and (is_stopping or (not is_done and is_due)):
            if processes.is_first:
                _save(training, step)
            saved_steps.append(step)
            saved_at = time.monotonic()
        if is_stopping:
            ctx.check_canceled()
            return  # in a further process, which is not asked to stop: it follows the first
        if is_done:
            _log_end(training, step)
            return

        step_epoch, place = plan.epoch_of(step)
        if step_epoch != epoch:
            epoch = step_epoch
            epoch_steps = epoch_batches(training.examples.lengths, config, seed=training.seed, epoch=epoch)
        rate = learning_rate_at(step, config, total_steps=plan.total_steps)
        processes.seed_for(training.seed, step)
        started, processor_started = time.perf_counter(), time.process_time()
        result = _step(training, epoch_steps[place], learning_rate=rate, step=step + 1)
        seconds, processor_seconds = time.perf_counter() - started, time.process_time() - processor_started
        step += 1
        _record(training, result, step=step, rate=rate, seconds=seconds, processor_seconds=processor_seconds)
        _check_losses(training, result, epoch_steps[place], rate=rate, saved_steps=saved_steps)


def _step(training: Training, micro_batches: Sequence[Indices], *, learning_rate: float, step: int) -> StepResult:
    """Run forward and backward over the micro-batches, then the optimizer once, unless loss or gradient is not finite."""
    result = compute_gradients(training, micro_batches, step=step)
    if result.is_finite:
        set_learning_rate(training.optimizer, learning_rate)
        training.optimizer.step()
    training.optimizer.zero_grad(set_to_none=True)
    return result


def _record(
    training: Training, result: StepResult, *, step: int, rate: float, seconds: float, processor_seconds: float
) -> None:
    history, plan = training.history, training.plan
    history.losses.append(result.loss)
    history.learning_rates.append(rate)
    history.grad_norms.append(result.grad_norm)
    history.add_metrics(result.metrics)
    history.tokens += result.tokens
    history.supervised_tokens += result.supervised_tokens
    history.seconds += seconds
    use = device_use(training.device, seconds=seconds, processor_seconds=processor_seconds)
    training.ctx.metric(
        "Training step completed",
        step=step,
        epoch=round(plan.epochs_done(step), 4),
        loss=result.loss,
        learning_rate=rate,
        grad_norm=result.grad_norm,
        tokens_per_second=result.tokens / seconds,
        supervised_tokens=result.supervised_tokens,
        memory_bytes=peak_memory_bytes(training.device),
        **({} if use is None else {"device_use": use}),
        **result.metrics,
    )
    training.ctx.progress(step / plan.total_steps, step=step, total_steps=plan.total_steps)


def _check_losses(
    training: Training, result: StepResult, micro_batches: Sequence[Indices], *, rate: float, saved_steps: Sequence[int]
) -> None:
    """Raise if the newest loss is not finite, or the newest losses diverge."""
    losses, config = training.history.losses, training.config
    if not result.is_finite:
        raise not_finite(
            loss=result.loss,
            grad_norm=result.grad_norm,
            step=len(losses),
            learning_rate=rate,
            row_numbers=_row_numbers(training, micro_batches),
            saved_steps=saved_steps,
        )
    first = first_diverging_step(losses, config)
    if first is not None:
        epoch, place = training.plan.epoch_of(first - 1)
        steps = epoch_batches(training.examples.lengths, config, seed=training.seed, epoch=epoch)
        raise diverged(
            first_step=first,
            losses=losses,
            config=config,
            learning_rate=rate,
            row_numbers=_row_numbers(training, steps[place]),
            saved_steps=saved_steps,
        )


def _row_numbers(training: Training, micro_batches: Sequence[Indices]) -> list[int]:
    return [number for indices in micro_batches for number in training.examples.row_numbers(indices)]


# --- between steps ---------------------------------------------------------------------------------------------------


def _is_evaluation_due(training: Training, step: int) -> bool:
    if training.eval_examples is None or step == 0 or training.history.is_evaluated(step):
        return False
    every = training.config.eval_every_steps
    return step == training.plan.total_steps or (step % every == 0 if every else training.plan.ends_epoch(step))


def _evaluate(training: Training, step: int) -> None:
    """Measure the loss on the evaluation examples, or leave it for the resume if told to stop meanwhile; keep the best."""
    if training.eval_examples is None:
        return
    evaluation = evaluate_examples(training, training.eval_examples)
    if evaluation is None:
        return
    history = training.history
    history.eval_steps.append(step)
    history.eval_losses.append(evaluation.loss)
    training.ctx.metric(
        "Evaluation completed",
        step=step,
        epoch=round(training.plan.epochs_done(step), 4),
        eval_loss=evaluation.loss,
        **{f"eval_{name}": value for name, value in evaluation.metrics.items()},
    )
    if training.config.load_best_at_end and history.best_evaluation() == step:
        scratch = training.best.with_suffix(".partial")
        save_weights(training.parameters, scratch)
        scratch.replace(training.best)


def _is_checkpoint_due(training: Training, step: int, saved_at: float) -> bool:
    every = training.config.checkpoint_every_steps
    is_due = time.monotonic() - saved_at >= training.config.checkpoint_every_seconds or (every and step % every == 0)
    return bool(is_due)


def _save(training: Training, step: int) -> None:
    """Write a checkpoint and hand it over; once the platform has it, this machine need not keep it."""
    folder = training.ctx.workdir / "checkpoints" / f"step-{step:08d}"
    save_checkpoint(
        folder,
        step=step,
        parameters=training.parameters,
        optimizer=training.optimizer,
        history=training.history,
        memory=training.memory,
        references=training.references,
        best=training.best if training.best.exists() else None,
        precision=training.precision,
        identity=training.identity,
    )
    training.ctx.checkpoint(folder, step=step, keep=training.config.keep_checkpoints)
    shutil.rmtree(folder)


# --- at the end ------------------------------------------------------------------------------------------------------


def _log_end(training: Training, step: int) -> None:
    if step < training.plan.total_steps:
        training.ctx.log(
            f"Stopped after step {step} of {training.plan.total_steps}: the evaluation loss has not fallen for"
            f" {training.config.early_stopping_patience} evaluations.",
            step=step,
            best_step=training.history.best_evaluation(),
        )
        training.ctx.progress(1.0, step=step, total_steps=step)


def _load_best(training: Training) -> None:
    """Put the weights of the best evaluation into the model, unless they are the last ones."""
    best = training.history.best_evaluation()
    if best is None or best == len(training.history.losses):
        return
    load_weights(training.best, training.parameters)
    training.ctx.log(f"The result is the weights after step {best}, which had the lowest evaluation loss.", step=best)
