"""Tune a base model on tokenized examples: LoRA, QLoRA or full weights, with checkpoints and exact resume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from celery_workers.contract import (
    Agent,
    AgentContext,
    Category,
    Estimate,
    EstimateContext,
    Examples,
    Model,
    Queue,
    Report,
    UserInputError,
)
from celery_workers.contract.estimates import JsonObject
from celery_workers.training.config import TrainingConfig

FULL_KINDS = ("base", "merged")

__all__ = ["TrainingAgent", "TrainingConfig", "TrainingInputs", "TrainingOutputs"]


@dataclass(frozen=True, kw_only=True)
class TrainingInputs:
    """``eval_examples`` are only measured; ``model`` is what an earlier training made, to train on: an adapter with methods
    lora and qlora, full weights with method full."""

    examples: Examples
    eval_examples: Examples | None = None
    model: Model | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingOutputs:
    """``model`` is the tuned adapter, or with method full the tuned weights; ``report`` has its curves."""

    model: Model
    report: Report


class TrainingAgent(Agent[TrainingConfig, TrainingInputs, TrainingOutputs]):
    """The same config, inputs, seed, device, number type and number of threads give the same adapter, also when the
    training was interrupted; the report's seconds and memory differ from run to run."""

    title = "Training"
    category = Category.TRAINING
    queue = Queue.GPU
    version = 2  # dropout draws its masks otherwise, and bfloat16 rounds elsewhere

    def estimate(self, ctx: EstimateContext, config: TrainingConfig, inputs: Mapping[str, Sequence[JsonObject]]) -> Estimate:
        """Say what the training will need, from the base's shapes and the rows' lengths."""
        from celery_workers.training.estimate import estimate_training

        examples, held_out = inputs["examples"][0], inputs.get("eval_examples")
        base_model = config.base_model or str(examples.get("base_model"))
        estimate = estimate_training(
            config,
            folder=ctx.base_model(base_model),
            examples=examples,
            eval_examples=held_out[0] if held_out else None,
            machine=ctx.machine,
        )
        kind = "merged" if config.method == "full" else "adapter"
        return replace(estimate, outputs={"model": {"model_kind": kind, "base_model": base_model}})

    def run(self, ctx: AgentContext, config: TrainingConfig, inputs: TrainingInputs) -> TrainingOutputs:
        """Train, then write the adapter and the report."""
        from celery_workers.training.expectation import describe_expected, expect
        from celery_workers.training.loop import train
        from celery_workers.training.outputs import describe_model, make_report, save_model, summarize
        from celery_workers.training.processes import started
        from celery_workers.training.sources import Sources

        base_model = _base_model(config, inputs)
        is_full = config.method == "full"
        base_folder = inputs.model.path if inputs.model and is_full else ctx.reference(base_model)
        sources = Sources(
            base_folder=base_folder,
            examples=inputs.examples,
            eval_examples=inputs.eval_examples,
            adapter_folder=inputs.model.path if inputs.model and not is_full else None,
        )
        expected = expect(config, sources)
        with started(ctx, config, sources) as processes:
            training = train(ctx, config, sources, processes=processes)

        folder, report_path = ctx.workdir / "model", ctx.workdir / "report.json"
        save_model(training, folder, base_model=base_model, base_folder=base_folder)
        report = make_report(training, base_model=base_model, expected=expected)
        report_metadata = dict(report.write(report_path))
        examples = inputs.examples.metadata
        metadata = {
            "base_model": base_model,
            "source_sha256": inputs.model.sha256 if inputs.model and is_full else "",
            "method": config.method,
            "objective": config.objective,
            "tokenizer_digest": examples.get("tokenizer_digest"),
            "template": examples.get("template"),
            **summarize(training),
            **describe_expected(expected),
            **describe_model(training),
        }
        return TrainingOutputs(
            model=Model(path=folder, metadata=metadata), report=Report(path=report_path, metadata=report_metadata)
        )


def _base_model(config: TrainingConfig, inputs: TrainingInputs) -> str:
    """Return the reference of the base model: the model input's, else the config's, else the examples'.

    Raises: UserInputError: the model input is not what the method trains on, or belongs to another base than the config names.
    """
    if inputs.model is None:
        return config.base_model or str(inputs.examples.metadata["base_model"])
    kind, base_model = str(inputs.model.metadata.get("model_kind")), str(inputs.model.metadata.get("base_model"))
    _check_model_input(kind, config.method)
    if config.base_model not in (None, base_model):
        raise UserInputError(
            f"base_model must be that of the model input, {base_model}, or empty, got {config.base_model}",
            code="adapter_of_another_base",
            field="base_model",
        )
    return base_model


def _check_model_input(kind: str, method: str) -> None:
    if method == "full" and kind not in FULL_KINDS:
        raise UserInputError(
            f"with method full the model input must be full weights, got {kind}; export the adapter merged first, or use method"
            " lora or qlora to train on it",
            code="unsupported_model",
        )
    if method != "full" and kind != "adapter":
        raise UserInputError(
            f"with method {method} the model input must be an adapter to train on, got {kind}; name full weights as base_model"
            " instead, model:<ModelVersion id> for one of the registry",
            code="unsupported_model",
        )
