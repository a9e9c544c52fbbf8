"""Set a training up: load and check everything, and go back to the checkpoint if there is one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from celery_workers.contract.context import AgentContext
from celery_workers.data.examples_file import open_examples
from celery_workers.modeling.device import pick_device
from celery_workers.modeling.precision import Precision, fastest_precision
from celery_workers.training.acceleration import accelerate
from celery_workers.training.attention import join_rows
from celery_workers.training.batches import Plan, plan_steps
from celery_workers.training.checkpoint import BEST, Checkpoint, Identity, open_checkpoint, restore
from celery_workers.training.checks import check_training
from celery_workers.training.config import TrainingConfig
from celery_workers.training.example_set import ExampleSet, open_example_set
from celery_workers.training.history import History
from celery_workers.training.identity import describe_training
from celery_workers.training.lora import trainable_parameters
from celery_workers.training.methods import TrainedModel, load_training_base, prepare_model
from celery_workers.training.optimizer import make_optimizer
from celery_workers.training.processes import ALONE, Processes
from celery_workers.training.recovery import MemoryUse, enable_checkpointing
from celery_workers.training.reference import References
from celery_workers.training.sources import Sources
from celery_workers.training.watching import check_can_watch


@dataclass(frozen=True, kw_only=True)
class Training:
    """Everything that set-up made, and the loop uses. ``model``, ``optimizer``, ``history``, ``memory`` and ``references``
    change as it goes."""

    ctx: AgentContext
    config: TrainingConfig
    model: TrainedModel
    parameters: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    examples: ExampleSet
    eval_examples: ExampleSet | None
    plan: Plan
    seed: int
    device: torch.device
    precision: Precision
    can_join: bool
    identity: Identity
    history: History
    memory: MemoryUse
    references: References
    best: Path
    """Where the weights of the best evaluation are kept; there may be none yet."""
    first_step: int
    processes: Processes


def set_up(ctx: AgentContext, config: TrainingConfig, sources: Sources, processes: Processes = ALONE) -> Training:
    """Load and check everything, and go back to the checkpoint if there is one."""
    device = pick_device()
    seed = ctx.seed if config.seed is None else config.seed
    rows = open_examples(sources.examples.path)
    eval_rows = open_examples(sources.eval_examples.path) if sources.eval_examples else None
    check_can_watch(config, has_evaluation=eval_rows is not None)
    examples = open_example_set(rows, config, seed=seed)
    eval_examples = None
    if eval_rows is not None:
        eval_examples = open_example_set(eval_rows, config, seed=seed, what="evaluation examples")
    check_training(config, sources, rows=rows, eval_rows=eval_rows, device=device)
    identity = describe_training(config, seed=seed, sources=sources)
    checkpoint = open_checkpoint(ctx.resume_from, identity=identity) if ctx.resume_from else None

    precision = _choose_precision(config, checkpoint, device, processes)
    torch.manual_seed(seed)
    model, can_join = _load_model(ctx, config, sources, device=device, precision=precision)
    parameters = trainable_parameters(model)
    optimizer = make_optimizer(parameters.values(), config)
    memory = _plan_memory(ctx, config, checkpoint, model)
    if checkpoint:
        restore(checkpoint, parameters=parameters, optimizer=optimizer)
    training = Training(
        ctx=ctx,
        config=config,
        model=model,
        parameters=parameters,
        optimizer=optimizer,
        examples=examples,
        eval_examples=eval_examples,
        plan=plan_steps(examples.lengths, config, seed=seed),
        seed=seed,
        device=device,
        precision=precision,
        can_join=can_join,
        identity=identity,
        history=checkpoint.history if checkpoint else History(),
        memory=memory,
        references=checkpoint.references if checkpoint else References(),
        best=_bring_best(ctx, checkpoint),
        processes=processes,
        first_step=checkpoint.step if checkpoint else 0,
    )
    _log_start(training, checkpoint)
    return training


def _choose_precision(
    config: TrainingConfig, checkpoint: Checkpoint | None, device: torch.device, processes: Processes
) -> Precision:
    if checkpoint:
        return checkpoint.precision
    chosen = fastest_precision(str(device)) if config.precision == "auto" else config.precision
    return "bfloat16" if processes.first_says(chosen == "bfloat16") else "float32"


def _load_model(
    ctx: AgentContext, config: TrainingConfig, sources: Sources, *, device: torch.device, precision: Precision
) -> tuple[TrainedModel, bool]:
    base = load_training_base(config, sources, device=device, precision=precision)
    can_join = join_rows(base)
    if not can_join:
        ctx.log("Rows of this architecture cannot be joined, so each runs alone: slower, and just as exact.", level="WARNING")
    model = prepare_model(base, config, sources)
    accelerate(model, can_join=can_join, precision=precision)
    return model, can_join


def _plan_memory(ctx: AgentContext, config: TrainingConfig, checkpoint: Checkpoint | None, model: TrainedModel) -> MemoryUse:
    """Return how much to compute at once: what the checkpoint found out, and less for each attempt killed since."""
    memory = checkpoint.memory if checkpoint else MemoryUse(is_checkpointing=config.gradient_checkpointing)
    if memory.learn_from(ctx.memory_failures):
        ctx.log(
            f"Earlier attempts ran out of memory ({ctx.memory_failures}): each micro-batch is cut into {memory.pieces}; the"
            " effective batch stays the same.",
            level="WARNING",
            halvings=memory.halvings,
        )
    if memory.is_checkpointing:
        enable_checkpointing(model)
    return memory


def _bring_best(ctx: AgentContext, checkpoint: Checkpoint | None) -> Path:
    """Return the place of the best weights, with those of the checkpoint in it."""
    folder = ctx.workdir / "best"
    folder.mkdir(exist_ok=True)
    if checkpoint and checkpoint.best:
        shutil.copyfile(checkpoint.best, folder / BEST)
    return folder / BEST


def _log_start(training: Training, checkpoint: Checkpoint | None) -> None:
    trained = sum(parameter.numel() for parameter in training.parameters.values())
    training.ctx.log(
        f"Training {trained:,} of {training.model.num_parameters():,} parameters in {training.precision} on {training.device}:"
        f" {len(training.examples)} examples, {training.examples.table.tokens:,} tokens, {training.plan.total_steps} steps",
        trainable_parameters=trained,
        total_steps=training.plan.total_steps,
        precision=training.precision,
        threads=torch.get_num_threads(),
    )
    if checkpoint is None:
        return
    training.ctx.log(f"Going on after step {checkpoint.step}", step=checkpoint.step)
    if checkpoint.versions != training.identity.versions:
        training.ctx.log(
            "The checkpoint was made by other versions; the last bits may differ from an unbroken run.",
            level="WARNING",
            before=checkpoint.versions,
            now=training.identity.versions,
        )
