"""The report of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from celery_workers.contract.context import Figure, ReportDocument, Series, Table
from celery_workers.evaluation.compare import LABELS, Resampling, SubjectComparison, as_json, verdict

REPORT_KIND = "comparison"
SHOWN_ROWS = 50  # rows that became wrong, listed in full; all of their numbers are in the data


def write_comparison(path: Path, comparisons: Sequence[SubjectComparison], resampling: Resampling) -> dict[str, object]:
    """Write the report and return the port's metadata."""
    verdicts = [verdict(comparison, confidence=resampling.confidence) for comparison in comparisons]
    document = ReportDocument(
        kind=REPORT_KIND,
        title=f"Comparison with {comparisons[0].baseline.name}",
        summary=_summary(comparisons),
        verdict=". ".join(verdicts),
        tables=[_score_table(comparisons), _difference_table(comparisons), *map(_worse_table, comparisons)],
        figures=[figure for metric in LABELS for figure in _metric_figures(comparisons, metric)],
        data={
            "resamples": resampling.resamples,
            "confidence": resampling.confidence,
            "seed": resampling.seed,
            "comparisons": [
                {
                    **as_json(comparison),
                    "verdict": sentence,
                    "newly_wrong_row_numbers": _row_numbers(comparison, comparison.newly_wrong),
                    "newly_right_row_numbers": _row_numbers(comparison, comparison.newly_right),
                }
                for comparison, sentence in zip(comparisons, verdicts, strict=True)
            ],
        },
    )
    metadata = dict(document.write(path))
    metadata["comparisons"] = [
        {**as_json(comparison), "verdict": sentence} for comparison, sentence in zip(comparisons, verdicts, strict=True)
    ]
    return metadata


def _row_numbers(comparison: SubjectComparison, positions: Sequence[int]) -> list[int]:
    return [comparison.subject.rows[position].row_number for position in positions]


def _summary(comparisons: Sequence[SubjectComparison]) -> dict[str, str | int | float | bool | None]:
    summary: dict[str, str | int | float | bool | None] = {}
    for comparison in comparisons:
        name = comparison.subject.name
        for metric in comparison.metrics:
            summary[f"{name}_{metric.metric}_difference"] = metric.interval.difference
            summary[f"{name}_{metric.metric}_difference_low"] = metric.interval.low
            summary[f"{name}_{metric.metric}_difference_high"] = metric.interval.high
        summary[f"{name}_newly_wrong_rows"] = len(comparison.newly_wrong)
    return summary


def _score_table(comparisons: Sequence[SubjectComparison]) -> Table:
    subjects = [comparisons[0].baseline, *(comparison.subject for comparison in comparisons)]
    metrics = [metric for metric in ("loss", "perplexity", "exact_match") if any(metric in item.scores for item in subjects)]
    return Table(
        title="Scores",
        columns=["Model", *(metric.replace("_", " ").capitalize() for metric in metrics), "Rows", "Precision"],
        rows=[
            [subject.name, *(subject.scores.get(metric) for metric in metrics), len(subject.rows), subject.precision]
            for subject in subjects
        ],
    )


def _difference_table(comparisons: Sequence[SubjectComparison]) -> Table:
    baseline = comparisons[0].baseline.name
    return Table(
        title=f"Differences from {baseline}",
        columns=["Model", "Metric", baseline, "Model's", "Difference", "Low", "High", "Wins", "Ties", "Losses", "Rows"],
        rows=[
            [
                comparison.subject.name,
                LABELS[metric.metric],
                metric.before,
                metric.after,
                metric.interval.difference,
                metric.interval.low,
                metric.interval.high,
                metric.wins,
                metric.ties,
                metric.losses,
                metric.rows,
            ]
            for comparison in comparisons
            for metric in comparison.metrics
        ],
    )


def _worse_table(comparison: SubjectComparison) -> Table:
    baseline, subject = comparison.baseline, comparison.subject
    count = len(comparison.newly_wrong)
    shown = f", the first {SHOWN_ROWS} shown" if count > SHOWN_ROWS else ""
    return Table(
        title=f"What got worse: {count} rows that {baseline.name} had right and {subject.name} has wrong{shown}",
        columns=["Row", "Reference", subject.name],
        rows=[
            [row.row_number, row.reference, row.generated]
            for row in (subject.rows[position] for position in comparison.newly_wrong[:SHOWN_ROWS])
        ],
    )


def _metric_figures(comparisons: Sequence[SubjectComparison], metric: str) -> list[Figure]:
    found = [(comparison, item) for comparison in comparisons for item in comparison.metrics if item.metric == metric]
    if not found:
        return []
    label, baseline = LABELS[metric].capitalize(), found[0][0].baseline.name
    scores = Series(
        name=label,
        x=[baseline, *(comparison.subject.name for comparison, _ in found)],
        y=[found[0][1].before, *(item.after for _, item in found)],
    )
    differences = Series(
        name=f"{label}, difference",
        x=[comparison.subject.name for comparison, _ in found],
        y=[item.interval.difference for _, item in found],
        low=[item.interval.low for _, item in found],
        high=[item.interval.high for _, item in found],
    )
    unit = "nats per token" if metric == "loss" else "0 to 1"
    return [
        Figure(title=label, type="bar", x_label="Model", y_label=f"{label} ({unit})", series=[scores]),
        Figure(
            title=f"{label}: difference from {baseline}",
            type="bar",
            x_label="Model",
            y_label=f"Difference ({unit})",
            series=[differences],
        ),
    ]
