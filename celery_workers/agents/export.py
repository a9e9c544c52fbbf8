"""Write the tuned model as files to take away, each tested against the live model.

``adapter`` is a PEFT folder; ``merged`` is full weights that plain transformers loads, folded in float32. Every export is
loaded again from its files and its logits on fixed probe texts are compared with those of the live adapter; a difference
beyond the tolerance of its number type fails the node. An adapter that was trained over a 4-bit base is exported and merged
over the full weights; the report says how much that changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator

from celery_workers.contract import (
    Agent,
    AgentConfig,
    AgentContext,
    Category,
    Estimate,
    EstimateContext,
    Model,
    Queue,
    Report,
)
from celery_workers.contract.estimates import JsonObject
from celery_workers.export.exporter import export_model
from celery_workers.export.report import report_summaries, write_report

START_SECONDS, BYTES_A_SECOND, PROCESS_BYTES = 8.0, 80e6, 700_000_000
"""What an export takes beside the weights, and how fast weights are read, folded, written and compared."""

NOT_YET = {"gguf": "gguf is not built yet"}


class ExportConfig(AgentConfig):
    """Which files to write."""

    formats: list[Literal["adapter", "merged"]] = Field(
        ["adapter", "merged"],
        min_length=1,
        description="Files to write: adapter (PEFT folder), merged (full weights for plain transformers).",
    )
    merged_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Number type of the merged weights; bfloat16 halves the size and rounds the weights."
    )

    @field_validator("formats", mode="before")
    @classmethod
    def _refuse_by_name(cls, value: object) -> object:
        for name in value if isinstance(value, list) else []:
            if name in NOT_YET:
                raise ValueError(f"{NOT_YET[name]}; formats may hold adapter and merged")
        return value

    @field_validator("formats")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError(f"must name each format once, got {', '.join(value)}")
        return value


@dataclass(frozen=True, kw_only=True)
class ExportInputs:
    """The model, and reports whose results travel with it."""

    model: Model
    reports: list[Report] | None = None


@dataclass(frozen=True, kw_only=True)
class ExportOutputs:
    report: Report
    adapter: Model | None = None
    merged: Model | None = None


class ExportAgent(Agent[ExportConfig, ExportInputs, ExportOutputs]):
    """Writes adapter and merged weights."""

    title = "Export"
    category = Category.DELIVERY
    queue = Queue.GPU
    version = 2

    def estimate(
        self,
        ctx: EstimateContext,
        config: ExportConfig,
        inputs: Mapping[str, Sequence[JsonObject]],
    ) -> Estimate:
        """Say how long writing, loading and comparing take, and how large the files are."""
        from celery_workers.modeling.skeleton import load_skeleton

        base = ctx.base_model(str(inputs["model"][0].get("base_model")))
        parameters = sum(parameter.numel() for parameter in load_skeleton(base).parameters())
        merged = parameters * (4 if config.merged_dtype == "float32" else 2) if "merged" in config.formats else 0
        return Estimate(
            seconds=START_SECONDS + (4 * parameters + merged) / BYTES_A_SECOND,
            memory_bytes=PROCESS_BYTES + 4 * parameters + merged,
            disk_bytes=merged,
        )

    def run(self, ctx: AgentContext, config: ExportConfig, inputs: ExportInputs) -> ExportOutputs:
        """Load the live model, write and test each format, write the report."""
        exported = export_model(ctx, inputs.model, config.formats, merged_dtype=config.merged_dtype)
        summaries = report_summaries(inputs.reports or [])
        report_path = ctx.workdir / "report.json"
        metadata = write_report(report_path, exported, model=inputs.model, summaries=summaries)
        models = {export.format: export.as_model(inputs.model, summaries) for export in exported.exports}
        return ExportOutputs(
            report=Report(path=report_path, metadata=metadata),
            adapter=models.get("adapter"),
            merged=models.get("merged"),
        )
