"""The report of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from celery_workers.contract.context import Figure, ReportDocument, Series, Table
from celery_workers.evaluation.evaluate import decode
from celery_workers.evaluation.rows import EvaluationRow
from celery_workers.evaluation.subject import REPORT_KIND, EvaluationData, Subject

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HISTOGRAM_BINS = 20
COLUMNS = {
    "loss": "Loss (nats per token)",
    "perplexity": "Perplexity",
    "exact_match": "Exact match (0 to 1)",
    "rows": "Rows",
    "supervised_tokens": "Supervised tokens",
}


def write_report(
    path: Path, data: EvaluationData, rows: Sequence[EvaluationRow], tokenizer: PreTrainedTokenizerBase, *, samples: int
) -> dict[str, object]:
    """Write the report and return the port's metadata: with the subjects, but not their rows."""
    document = ReportDocument(
        kind=REPORT_KIND,
        title="Evaluation of " + " and ".join(subject.name for subject in data.subjects),
        summary=_summary(data.subjects, rows=len(rows)),
        tables=[_score_table(data.subjects)],
        figures=_figures(data.subjects),
        samples=_samples(data.subjects, rows, tokenizer, count=samples),
        data=data.model_dump(mode="json"),
    )
    metadata = dict(document.write(path))
    metadata["examples_sha256"] = data.examples_sha256
    metadata["subjects"] = [subject.without_rows() for subject in data.subjects]
    return metadata


def _summary(subjects: Sequence[Subject], *, rows: int) -> dict[str, str | int | float | bool | None]:
    scores = {
        f"{subject.name}_{metric}": value
        for subject in subjects
        for metric, value in subject.scores.items()
        if metric not in ("rows", "supervised_tokens")
    }
    return {**scores, "rows": rows}


def _score_table(subjects: Sequence[Subject]) -> Table:
    metrics = [metric for metric in COLUMNS if metric in subjects[0].scores]
    return Table(
        title="Scores",
        columns=["Model", *(COLUMNS[metric] for metric in metrics), "Precision"],
        rows=[[subject.name, *(subject.scores[metric] for metric in metrics), subject.precision] for subject in subjects],
    )


def _figures(subjects: Sequence[Subject]) -> list[Figure]:
    losses = {subject.name: [row.loss for row in subject.rows if row.loss is not None] for subject in subjects}
    values = [value for rows in losses.values() for value in rows]
    if not values:
        return []
    low, width = min(values), (max(values) - min(values)) / HISTOGRAM_BINS or 1.0
    middles: list[float | str] = [low + (index + 0.5) * width for index in range(HISTOGRAM_BINS)]
    series = [Series(name=name, x=middles, y=list(_counts(rows, low=low, width=width))) for name, rows in losses.items()]
    return [Figure(title="Loss by row", type="histogram", x_label="Loss (nats per token)", y_label="Rows", series=series)]


def _counts(values: Sequence[float], *, low: float, width: float) -> list[float]:
    counts = [0.0] * HISTOGRAM_BINS
    for value in values:
        counts[min(HISTOGRAM_BINS - 1, int((value - low) / width))] += 1
    return counts


def _samples(
    subjects: Sequence[Subject], rows: Sequence[EvaluationRow], tokenizer: PreTrainedTokenizerBase, *, count: int
) -> list[dict[str, object]]:
    asked = [index for index, _ in enumerate(rows) if subjects[0].rows[index].generated is not None]
    count = min(count, len(asked))
    chosen = [asked[place * len(asked) // count] for place in range(count)]
    return [
        {
            "row_number": rows[index].row_number,
            "prompt": str(tokenizer.decode(rows[index].prompt_ids)),
            "reference": decode(tokenizer, rows[index].reference_ids),
            **{subject.name: subject.rows[index].generated for subject in subjects},
            **{f"{subject.name}_exact_match": subject.rows[index].exact_match for subject in subjects},
        }
        for index in chosen
    ]
