"""Write the tuned model as files to take away, each tested against the live model.

``adapter`` is a PEFT folder; ``merged`` is full weights that plain transformers loads, folded in float32. Every export is
loaded again from its files and its logits on fixed probe texts are compared with those of the live adapter; a difference
beyond the tolerance of its number type fails the node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator

from celery_workers.contract import Agent, AgentConfig, AgentContext, Category, Model, Queue, Report
from celery_workers.export.exporter import export_model
from celery_workers.export.report import report_summaries, write_report

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

    def run(self, ctx: AgentContext, config: ExportConfig, inputs: ExportInputs) -> ExportOutputs:
        """Load the live model, write and test each format, write the report."""
        exports = export_model(ctx, inputs.model, config.formats, merged_dtype=config.merged_dtype)
        summaries = report_summaries(inputs.reports or [])
        report_path = ctx.workdir / "report.json"
        metadata = write_report(report_path, exports, model=inputs.model, summaries=summaries)
        models = {export.format: export.as_model(inputs.model, summaries) for export in exports}
        return ExportOutputs(
            report=Report(path=report_path, metadata=metadata),
            adapter=models.get("adapter"),
            merged=models.get("merged"),
        )
