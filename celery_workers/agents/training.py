"""Tune a base model on tokenized examples: LoRA, with checkpoints and exact resume."""

from __future__ import annotations

from dataclasses import dataclass

from celery_workers.contract import Agent, AgentContext, Category, Examples, Model, Queue, Report, UserInputError
from celery_workers.training.config import TrainingConfig

__all__ = ["TrainingAgent", "TrainingConfig", "TrainingInputs", "TrainingOutputs"]


@dataclass(frozen=True, kw_only=True)
class TrainingInputs:
    """``eval_examples`` are only measured; ``model`` is an adapter of an earlier training to train on."""

    examples: Examples
    eval_examples: Examples | None = None
    model: Model | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingOutputs:
    """``model`` is the tuned adapter; ``report`` has its curves."""

    model: Model
    report: Report


class TrainingAgent(Agent[TrainingConfig, TrainingInputs, TrainingOutputs]):
    """The same config, inputs, seed, device, number type and number of threads give the same adapter, also when the
    training was interrupted; the report's seconds and memory differ from run to run."""

    title = "Training"
    category = Category.TRAINING
    queue = Queue.GPU

    def run(self, ctx: AgentContext, config: TrainingConfig, inputs: TrainingInputs) -> TrainingOutputs:
        """Train, then write the adapter and the report."""
        from celery_workers.training.loop import train
        from celery_workers.training.outputs import describe_adapter, make_report, save_adapter, summarize
        from celery_workers.training.sources import Sources

        base_model = _base_model(config, inputs)
        base_folder = ctx.reference(base_model)
        sources = Sources(
            base_folder=base_folder,
            examples=inputs.examples,
            eval_examples=inputs.eval_examples,
            adapter_folder=inputs.model.path if inputs.model else None,
        )
        training = train(ctx, config, sources)

        folder, report_path = ctx.workdir / "model", ctx.workdir / "report.json"
        save_adapter(training, folder, base_model=base_model, base_folder=base_folder)
        report = make_report(training, base_model=base_model)
        report_metadata = dict(report.write(report_path))
        examples = inputs.examples.metadata
        metadata = {
            "model_kind": "adapter",
            "base_model": base_model,
            "method": config.method,
            "objective": config.objective,
            "tokenizer_digest": examples.get("tokenizer_digest"),
            "template": examples.get("template"),
            **describe_adapter(training),
            **summarize(training),
        }
        return TrainingOutputs(
            model=Model(path=folder, metadata=metadata), report=Report(path=report_path, metadata=report_metadata)
        )


def _base_model(config: TrainingConfig, inputs: TrainingInputs) -> str:
    """Return the reference of the base model: the adapter's, else the config's, else the examples'.

    Raises: UserInputError: the model input is no adapter, or belongs to another base than the config names.
    """
    if inputs.model is None:
        return config.base_model or str(inputs.examples.metadata["base_model"])
    kind, base_model = inputs.model.metadata.get("model_kind"), str(inputs.model.metadata.get("base_model"))
    if kind != "adapter":
        raise UserInputError(
            f"the model input must be an adapter to train on, got {kind}; name full weights as base_model instead,"
            " model:<ModelVersion id> for one of the registry",
            code="unsupported_model",
        )
    if config.base_model not in (None, base_model):
        raise UserInputError(
            f"base_model must be that of the adapter, {base_model}, or empty, got {config.base_model}",
            code="adapter_of_another_base",
            field="base_model",
        )
    return base_model
