"""Set a training up: load and check everything, and go back to the checkpoint if there is one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from celery_workers.contract.context import AgentContext
from celery_workers.data.examples_file import ExamplesTable, open_examples
from celery_workers.modeling.device import pick_device
from celery_workers.modeling.precision import Precision, fastest_precision
from celery_workers.training.acceleration import accelerate
from celery_workers.training.attention import join_rows
from celery_workers.training.batches import Plan, plan_steps
from celery_workers.training.checkpoint import Checkpoint, Identity, open_checkpoint, restore
from celery_workers.training.checks import check_training
from celery_workers.training.config import TrainingConfig
from celery_workers.training.history import History
from celery_workers.training.identity import describe_training
from celery_workers.training.lora import trainable_parameters
from celery_workers.training.methods import TrainedModel, load_training_base, prepare_model
from celery_workers.training.optimizer import make_optimizer
from celery_workers.training.sources import Sources


@dataclass(frozen=True, kw_only=True)
class Training:
    """Everything that set-up made, and the loop uses. ``model``, ``optimizer`` and ``history`` change as it goes."""

    ctx: AgentContext
    config: TrainingConfig
    model: TrainedModel
    parameters: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    rows: ExamplesTable
    eval_rows: ExamplesTable | None
    plan: Plan
    seed: int
    device: torch.device
    precision: Precision
    can_join: bool
    identity: Identity
    history: History
    first_step: int


def set_up(ctx: AgentContext, config: TrainingConfig, sources: Sources) -> Training:
    """Load and check everything, and go back to the checkpoint if there is one."""
    device = pick_device()
    seed = ctx.seed if config.seed is None else config.seed
    rows = open_examples(sources.examples.path)
    eval_rows = open_examples(sources.eval_examples.path) if sources.eval_examples else None
    check_training(config, sources, rows=rows, eval_rows=eval_rows, device=device)
    identity = describe_training(config, seed=seed, sources=sources)
    checkpoint = open_checkpoint(ctx.resume_from, identity=identity) if ctx.resume_from else None

    precision = _choose_precision(config, checkpoint, device)
    torch.manual_seed(seed)
    model, can_join = _load_model(ctx, config, sources, device=device, precision=precision)
    parameters = trainable_parameters(model)
    optimizer = make_optimizer(parameters.values(), config)
    if checkpoint:
        restore(checkpoint, parameters=parameters, optimizer=optimizer)
    training = Training(
        ctx=ctx,
        config=config,
        model=model,
        parameters=parameters,
        optimizer=optimizer,
        rows=rows,
        eval_rows=eval_rows,
        plan=plan_steps(rows.lengths, config, seed=seed),
        seed=seed,
        device=device,
        precision=precision,
        can_join=can_join,
        identity=identity,
        history=checkpoint.history if checkpoint else History(),
        first_step=checkpoint.step if checkpoint else 0,
    )
    _log_start(training, checkpoint)
    return training


def _choose_precision(config: TrainingConfig, checkpoint: Checkpoint | None, device: torch.device) -> Precision:
    if checkpoint:
        return checkpoint.precision
    return fastest_precision(str(device)) if config.precision == "auto" else config.precision


def _load_model(
    ctx: AgentContext, config: TrainingConfig, sources: Sources, *, device: torch.device, precision: Precision
) -> tuple[TrainedModel, bool]:
    base = load_training_base(config, sources, device=device, precision=precision)
    can_join = join_rows(base)
    if not can_join:
        ctx.log("Rows of this architecture cannot be joined, so each runs alone: slower, and just as exact.", level="WARNING")
    if config.gradient_checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model = prepare_model(base, config, sources)
    accelerate(model, can_join=can_join, precision=precision)
    return model, can_join


def _log_start(training: Training, checkpoint: Checkpoint | None) -> None:
    trained = sum(parameter.numel() for parameter in training.parameters.values())
    training.ctx.log(
        f"Training {trained:,} of {training.model.num_parameters():,} parameters in {training.precision} on {training.device}:"
        f" {len(training.rows)} rows, {training.rows.tokens:,} tokens, {training.plan.total_steps} steps",
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
