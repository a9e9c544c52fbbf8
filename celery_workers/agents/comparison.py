"""Say which model is better, by how much, and how sure that is; list what got worse.

The same rows were put to every model, so differences are taken row by row and their confidence intervals come from a
paired bootstrap. The same reports and the same seed give the same intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from celery_workers.contract import Agent, AgentConfig, AgentContext, Category, Estimate, EstimateContext, Report
from celery_workers.contract.estimates import JsonObject
from celery_workers.evaluation.compare import Resampling, SubjectComparison, compare, gather_subjects, pick_baseline, verdict
from celery_workers.evaluation.comparison_report import write_comparison
from celery_workers.evaluation.subject import Subject, read_evaluation


class ComparisonConfig(AgentConfig):
    """How differences are judged."""

    baseline: str = Field(
        "", max_length=100, description="Name of the model that the others are compared with; empty: the base, else the first."
    )
    resamples: int = Field(10_000, ge=100, le=100_000, description="Bootstrap resamples per interval.")
    confidence: float = Field(0.95, ge=0.5, le=0.999, description="Confidence of the intervals, 0 to 1.")
    minimum_rows: int = Field(10, ge=2, le=100_000, description="Fewest rows on which a difference is called shown.")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of the resampling.")


@dataclass(frozen=True, kw_only=True)
class ComparisonInputs:
    """Evaluation reports on the same examples, with two or more models in all."""

    reports: list[Report]


@dataclass(frozen=True, kw_only=True)
class ComparisonOutputs:
    report: Report


class ComparisonAgent(Agent[ComparisonConfig, ComparisonInputs, ComparisonOutputs]):
    """Sets evaluated models side by side."""

    title = "Comparison"
    category = Category.EVALUATION

    def estimate(
        self,
        ctx: EstimateContext,  # noqa: ARG002
        config: ComparisonConfig,  # noqa: ARG002
        inputs: Mapping[str, Sequence[JsonObject]],  # noqa: ARG002
    ) -> Estimate:
        """Say how long it takes: a moment, whatever the rows."""
        return Estimate(seconds=2.0)

    def run(self, ctx: AgentContext, config: ComparisonConfig, inputs: ComparisonInputs) -> ComparisonOutputs:
        """Read the reports, compare each model with the baseline, write the report."""
        evaluations = [read_evaluation(report.path)[1] for report in inputs.reports]
        subjects = gather_subjects(evaluations)
        baseline = pick_baseline(subjects, config.baseline)
        resampling = Resampling(
            resamples=config.resamples, confidence=config.confidence, minimum_rows=config.minimum_rows, seed=config.seed
        )
        others = [subject for subject in subjects if subject is not baseline]
        comparisons = [_compare(ctx, baseline, subject, resampling) for subject in others]
        path = ctx.workdir / "report.json"
        metadata = write_comparison(path, comparisons, resampling)
        ctx.progress(1.0)
        return ComparisonOutputs(report=Report(path=path, metadata=metadata))


def _compare(ctx: AgentContext, baseline: Subject, subject: Subject, resampling: Resampling) -> SubjectComparison:
    ctx.check_canceled()
    if subject.precision != baseline.precision:
        ctx.log(
            f"{subject.name} was measured in {subject.precision}, {baseline.name} in {baseline.precision}: a part of the "
            "difference may come from that",
            level="WARNING",
        )
    comparison = compare(baseline, subject, resampling)
    ctx.log(verdict(comparison, confidence=resampling.confidence))
    return comparison
