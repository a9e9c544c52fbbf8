"""Write a few rows.

A small honest agent for the tests of the contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from celery_workers.contract import (
    Agent,
    AgentConfig,
    AgentContext,
    BaseModelRef,
    Category,
    Dataset,
    Examples,
    Model,
    Report,
)


class SampleConfig(AgentConfig):
    rows: int = Field(3, ge=1, le=10, description="Rows to write.")
    base_model: BaseModelRef = Field("bundled:tiny", description="A reference.")
    returns: str = Field("good", description="What run returns.")


@dataclass(frozen=True, kw_only=True)
class SampleInputs:
    dataset: Dataset
    model: Model | None
    reports: list[Report] | None


@dataclass(frozen=True, kw_only=True)
class SampleOutputs:
    examples: Examples
    report: Report | None = None


class SampleAgent(Agent[SampleConfig, SampleInputs, SampleOutputs]):
    title = "Sample"
    category = Category.DATA

    def run(self, ctx: AgentContext, config: SampleConfig, inputs: SampleInputs) -> SampleOutputs:
        """Write one file a row, or break the contract as ``returns`` says."""
        folder = ctx.workdir / "examples"
        folder.mkdir()
        for row in range(config.rows):
            ctx.check_canceled()
            (folder / f"{row}.txt").write_text(inputs.dataset.path.name, encoding="utf-8")
            ctx.metric("row", step=row + 1, loss=float("nan"), rows_per_second=float(row))
        ctx.log("done", reference=ctx.reference(config.base_model), reports=len(inputs.reports or []))
        ctx.checkpoint(folder, step=config.rows)
        ctx.progress(1.0)
        return self._outputs(config.returns, folder)

    def _outputs(self, returns: str, folder: Path) -> SampleOutputs:
        if returns == "wrong kind":
            return SampleOutputs(examples=Report(path=folder))  # type: ignore[arg-type]
        if returns == "missing path":
            return SampleOutputs(examples=Examples(path=folder / "absent"))
        if returns == "outside":
            return SampleOutputs(examples=Examples(path=Path("/etc")))
        if returns == "nothing":
            return SampleOutputs(examples=None)  # type: ignore[arg-type]
        if returns == "a dict":
            return {"examples": folder}  # type: ignore[return-value]
        return SampleOutputs(examples=Examples(path=folder, metadata={"rows": 3}))
