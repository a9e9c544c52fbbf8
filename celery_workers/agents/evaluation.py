"""Measure loss, perplexity and exact match on held-out examples, for the base and the tuned model alike.

Teacher forcing gives the loss of every row; greedy generation gives an answer to every prompt, which is compared with
the reference. The report keeps each row's numbers, so that a comparison can pair them. On one device the same inputs give
the same numbers; another device or precision may change the last digits, and with them a nearly tied token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from celery_workers.contract import (
    Agent,
    AgentConfig,
    AgentContext,
    Category,
    Estimate,
    EstimateContext,
    Examples,
    Model,
    Queue,
    Report,
)
from celery_workers.contract.estimates import JsonObject
from celery_workers.evaluation.answers import MatchMode
from celery_workers.evaluation.evaluate import Measurement, Meter, evaluate_model, work_units
from celery_workers.evaluation.loaded import BaseWeights, LoadedModel, load_models
from celery_workers.evaluation.report import write_report
from celery_workers.evaluation.rows import EvaluationRow, read_rows
from celery_workers.evaluation.subject import EvaluationData, Subject

Metric = Literal["loss", "perplexity", "exact_match"]


class EvaluationConfig(AgentConfig):
    """What to measure, and on how many rows."""

    metrics: list[Metric] = Field(
        ["loss", "perplexity", "exact_match"],
        min_length=1,
        description="What to measure: loss (nats per supervised token), perplexity (its exponential), exact_match (share of "
        "generated answers that equal the reference, 0 to 1).",
    )
    generate: bool = Field(True, description="Generate an answer to every prompt; exact_match and samples need it.")
    match: MatchMode = Field(
        MatchMode.NONE,
        description="How answers are compared: none (stripped texts), whitespace (runs of white space count as one space), "
        "json (values of the parsed texts).",
    )
    include_base: bool = Field(True, description="With an adapter, measure its base on the same rows too.")
    max_rows: int | None = Field(None, ge=1, le=1_000_000, description="Measure the first so many rows only; null: all.")
    max_new_tokens: int = Field(
        256, ge=1, le=8192, description="Longest generated answer.", json_schema_extra={"unit": "tokens"}
    )
    batch_size: int = Field(50, ge=1, le=1024, description="Rows at once; changes speed and memory, not results.")
    samples: int = Field(8, ge=0, le=200, description="Rows shown in full in the report, spread evenly over the examples.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Number type of the weights; auto takes the one that this device multiplies faster."
    )
    base_weights: BaseWeights = Field(
        "full",
        description="Weights of the model, or of the base under an adapter: full, as exports are merged, or nf4 (4 bits), as"
        " method qlora trains and as takes a quarter of the memory.",
    )

    @model_validator(mode="after")
    def _exact_match_needs_answers(self) -> Self:
        if "exact_match" in self.metrics and not self.generate:
            raise ValueError("metrics with exact_match need generate: true; leave it out of metrics to measure the loss only")
        return self


@dataclass(frozen=True, kw_only=True)
class EvaluationInputs:
    """Without a model, the base that the examples were tokenized for is measured."""

    eval_examples: Examples
    model: Model | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationOutputs:
    report: Report


class EvaluationAgent(Agent[EvaluationConfig, EvaluationInputs, EvaluationOutputs]):
    """Measures one model, and its base beside it."""

    title = "Evaluation"
    category = Category.EVALUATION
    queue = Queue.GPU

    def estimate(self, ctx: EstimateContext, config: EvaluationConfig, inputs: Mapping[str, Sequence[JsonObject]]) -> Estimate:
        """Say how long measuring and generating take, for the model and the base beside it."""
        from celery_workers.evaluation.estimate import estimate_evaluation

        examples, models = inputs["eval_examples"][0], inputs.get("model", [])
        subjects = 2 if models and config.include_base and models[0].get("model_kind") == "adapter" else 1
        return estimate_evaluation(
            ctx.base_model(str(examples.get("base_model"))),
            examples,
            machine=ctx.machine,
            subjects=subjects,
            max_rows=config.max_rows,
            max_new_tokens=config.max_new_tokens if config.generate else 0,
        )

    def run(self, ctx: AgentContext, config: EvaluationConfig, inputs: EvaluationInputs) -> EvaluationOutputs:
        """Load, measure each subject, write the report."""
        row_format = str(inputs.eval_examples.metadata["format"])
        rows = read_rows(inputs.eval_examples.path, row_format=row_format, max_rows=config.max_rows)
        if config.generate and not any(row.has_question for row in rows):
            ctx.log(f"Rows of the format {row_format} have no prompt, so nothing is generated", level="WARNING")
        loaded = load_models(
            ctx, inputs.eval_examples, inputs.model, precision=config.precision, base_weights=config.base_weights
        )
        _say_other_weights(ctx, inputs.model, config.base_weights)
        measurement = Measurement(
            metrics=frozenset(config.metrics),
            generate=config.generate,
            match=config.match,
            max_new_tokens=config.max_new_tokens,
            batch_size=config.batch_size,
        )
        subjects = _measure(ctx, loaded, rows, measurement, include_base=config.include_base)
        data = EvaluationData(
            examples_sha256=loaded.examples_sha256,
            match=config.match,
            max_new_tokens=config.max_new_tokens,
            subjects=subjects,
        )
        path = ctx.workdir / "report.json"
        metadata = write_report(path, data, rows, loaded.tokenizer, samples=config.samples)
        return EvaluationOutputs(report=Report(path=path, metadata=metadata))


def _say_other_weights(ctx: AgentContext, model: Model | None, base_weights: BaseWeights) -> None:
    """Say so where an adapter is measured over other weights than it was trained over."""
    if model is None or model.metadata.get("model_kind") != "adapter":
        return
    trained_over = model.metadata.get("quantization") or "full"
    if trained_over != base_weights:
        ctx.log(
            f"The adapter was trained over {trained_over} weights of the base and is measured over {base_weights} ones;"
            " base_weights chooses",
            trained_over=trained_over,
            base_weights=base_weights,
        )


def _measure(
    ctx: AgentContext, loaded: LoadedModel, rows: list[EvaluationRow], measurement: Measurement, *, include_base: bool
) -> list[Subject]:
    identities = [identity for identity in loaded.identities if include_base or identity is loaded.identities[-1]]
    meter = Meter(ctx=ctx, total=len(identities) * work_units(rows, measurement))
    subjects = []
    for identity in identities:
        ctx.log(f"Measuring {identity.name}", rows=len(rows), precision=loaded.precision, device=loaded.device)
        with loaded.as_subject(identity) as model:
            measured = evaluate_model(model, loaded.tokenizer, rows, measurement, meter)
        subject = identity.with_rows(measured, metrics=measurement.metrics, precision=loaded.precision)
        _log_scores(ctx, subject)
        subjects.append(subject)
    return subjects


def _log_scores(ctx: AgentContext, subject: Subject) -> None:
    ctx.log(f"Measured {subject.name}", scores=subject.scores)
    broken = sum(row.loss is None and row.supervised_tokens > 0 for row in subject.rows)
    if {"loss", "perplexity"} & subject.scores.keys() and broken:
        ctx.log(f"The loss of {subject.name} is not a finite number on {broken} rows", level="WARNING")
