"""Compare models that were measured on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from celery_workers.contract.errors import UserInputError
from celery_workers.evaluation.bootstrap import Interval, paired_difference
from celery_workers.evaluation.subject import EvaluationData, Role, Subject, SubjectRow

LABELS = {"exact_match": "exact match", "loss": "loss"}
HIGHER_IS_BETTER = {"exact_match": True, "loss": False}


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How intervals are found. ``confidence`` lies between 0 and 1; below ``minimum_rows`` no verdict is given."""

    resamples: int
    confidence: float
    minimum_rows: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class MetricComparison:
    """One metric of two models over the rows that have it. A win is a row on which the second model does better."""

    metric: str
    rows: int
    before: float
    after: float
    interval: Interval
    wins: int
    ties: int
    losses: int
    is_enough: bool

    @property
    def improvement(self) -> int:
        """1 where the second model is shown to be better, -1 where worse, 0 where neither is shown."""
        if not self.is_enough or not self.interval.excludes_zero:
            return 0
        return 1 if (self.interval.difference > 0) == HIGHER_IS_BETTER[self.metric] else -1


@dataclass(frozen=True, kw_only=True)
class SubjectComparison:
    """One model against the baseline. ``newly_wrong`` and ``newly_right`` hold positions of rows, from 0."""

    baseline: Subject
    subject: Subject
    metrics: list[MetricComparison]
    newly_wrong: list[int]
    newly_right: list[int]


def gather_subjects(evaluations: Sequence[EvaluationData]) -> list[Subject]:
    """Return every model once, after checking that all were measured on the same rows in the same way.

    A model that several reports hold, as a base often is, is taken from the first. Equal names get a number.

    Raises: UserInputError: the rows or the settings differ, or fewer than two models are left; the message says how.
    """
    for other in evaluations[1:]:
        check_comparable(evaluations[0], other)
    unique: dict[tuple[str, str], Subject] = {}
    for subject in (subject for evaluation in evaluations for subject in evaluation.subjects):
        unique.setdefault((subject.model_sha256, subject.base_model), subject)
    if len(unique) < 2:
        names = ", ".join(subject.name for subject in unique.values()) or "none"
        raise UserInputError(
            f"a comparison needs at least 2 different models, got {len(unique)} ({names}); connect a second evaluation, or set "
            "include_base in the first",
            code="too_few_subjects",
        )
    return _with_unique_names(list(unique.values()))


def check_comparable(first: EvaluationData, other: EvaluationData) -> None:
    """Check that two evaluations can be paired row by row.

    Raises: UserInputError: other examples, other rows, or another way of generating or matching.
    """
    numbers, other_numbers = ([row.row_number for row in item.subjects[0].rows] for item in (first, other))
    if len(numbers) != len(other_numbers):
        raise UserInputError(
            f"models must be measured on the same rows, got {len(numbers)} rows and {len(other_numbers)} rows; set the same "
            "max_rows in both evaluations",
            code="different_rows",
        )
    if numbers != other_numbers:
        place = next(index for index, pair in enumerate(zip(numbers, other_numbers, strict=True)) if pair[0] != pair[1])
        raise UserInputError(
            f"models must be measured on the same rows, but example {place + 1} is row {numbers[place]} in one evaluation "
            f"and row {other_numbers[place]} in another",
            code="different_rows",
        )
    if first.examples_sha256 != other.examples_sha256:
        raise UserInputError(
            "models must be measured on the same examples, got two sets with digests "
            f"{first.examples_sha256[:12]} and {other.examples_sha256[:12]}; connect both to one preprocessing node",
            code="different_examples",
            evidence={"examples_sha256": [first.examples_sha256, other.examples_sha256]},
        )
    for setting in ("match", "max_new_tokens"):
        values = getattr(first, setting), getattr(other, setting)
        if values[0] != values[1]:
            raise UserInputError(
                f"models must be measured in the same way, got {setting} {values[0]} and {values[1]}", code="different_settings"
            )


def pick_baseline(subjects: Sequence[Subject], name: str) -> Subject:
    """Return the subject called ``name``; without a name the first base, else the first subject.

    Raises: UserInputError: there is none of that name.
    """
    if not name:
        return next((subject for subject in subjects if subject.role is Role.BASE), subjects[0])
    for subject in subjects:
        if subject.name == name:
            return subject
    names = ", ".join(subject.name for subject in subjects)
    raise UserInputError(f"baseline must be one of {names}, got {name!r}", field="baseline", code="unknown_baseline")


def compare(baseline: Subject, subject: Subject, resampling: Resampling) -> SubjectComparison:
    """Compare ``subject`` with ``baseline`` on every metric that both have.

    Raises: UserInputError: they have none in common, or a loss is not finite.
    """
    for measured in (baseline, subject):
        _check_losses_are_finite(measured)
    compared = [_compare_metric(metric, baseline.rows, subject.rows, resampling) for metric in LABELS]
    metrics = [metric for metric in compared if metric is not None]
    if not metrics:
        raise UserInputError(
            f"{baseline.name} and {subject.name} have no metric in common; measure loss or exact_match for both",
            code="no_common_metric",
        )
    pairs = list(zip(baseline.rows, subject.rows, strict=True))
    return SubjectComparison(
        baseline=baseline,
        subject=subject,
        metrics=metrics,
        newly_wrong=[index for index, (old, new) in enumerate(pairs) if old.exact_match and new.exact_match is False],
        newly_right=[index for index, (old, new) in enumerate(pairs) if old.exact_match is False and new.exact_match],
    )


def verdict(comparison: SubjectComparison, *, confidence: float) -> str:
    """Say in one sentence who is better and by how much; metrics that contradict each other are both named."""
    name, shown = comparison.subject.name, [metric for metric in comparison.metrics if metric.improvement]
    percent = f"{confidence:.0%}".replace("%", " %")
    if not shown:
        details = "; ".join(_difference_text(metric, percent) for metric in comparison.metrics)
        few = next((metric for metric in comparison.metrics if not metric.is_enough), None)
        reason = f"{few.rows} rows are too few: " if few else ""
        return f"no difference shown between {name} and {comparison.baseline.name}: {reason}{details}"
    details = "; ".join(_difference_text(metric, percent) for metric in shown)
    directions = {metric.improvement for metric in shown}
    if len(directions) == 2:
        return f"{name} is better on one metric and worse on another: {details}"
    return f"{name} is {'better' if directions == {1} else 'worse'}: {details}"


def _difference_text(metric: MetricComparison, percent: str) -> str:
    interval = metric.interval
    return f"{LABELS[metric.metric]} {interval.difference:+.2f}, {percent} interval [{interval.low:.2f}, {interval.high:.2f}]"


def _check_losses_are_finite(subject: Subject) -> None:
    if not {"loss", "perplexity"} & subject.scores.keys():
        return
    broken = [row.row_number for row in subject.rows if row.loss is None and row.supervised_tokens]
    if broken:
        raise UserInputError(
            f"the loss of {subject.name} is not a finite number on {len(broken)} of {len(subject.rows)} rows, first on row "
            f"{broken[0]}: its training has diverged or its weights are broken",
            code="loss_not_finite",
            evidence={"row_numbers": broken[:100]},
        )


def _compare_metric(
    metric: str, before: Sequence[SubjectRow], after: Sequence[SubjectRow], resampling: Resampling
) -> MetricComparison | None:
    triples = [
        (float(old), float(new), float(row.supervised_tokens) if metric == "loss" else 1.0)
        for row, old, new in (
            (row, getattr(row, metric), getattr(other, metric)) for row, other in zip(before, after, strict=True)
        )
        if old is not None and new is not None
    ]
    if not triples:
        return None
    olds, news, weights = (list(values) for values in zip(*triples, strict=True))
    interval = paired_difference(
        olds,
        news,
        weights=weights,
        resamples=resampling.resamples,
        confidence=resampling.confidence,
        seed=resampling.seed,
    )
    sign = 1 if HIGHER_IS_BETTER[metric] else -1
    changes = [sign * (new - old) for old, new in zip(olds, news, strict=True)]
    mean_before = sum(old * weight for old, weight in zip(olds, weights, strict=True)) / sum(weights)
    return MetricComparison(
        metric=metric,
        rows=len(triples),
        before=mean_before,
        after=mean_before + interval.difference,
        interval=interval,
        wins=sum(change > 0 for change in changes),
        ties=sum(change == 0 for change in changes),
        losses=sum(change < 0 for change in changes),
        is_enough=len(triples) >= resampling.minimum_rows,
    )


def _with_unique_names(subjects: Sequence[Subject]) -> list[Subject]:
    seen: dict[str, int] = {}
    named = []
    for subject in subjects:
        seen[subject.name] = seen.get(subject.name, 0) + 1
        number = seen[subject.name]
        named.append(subject if number == 1 else subject.model_copy(update={"name": f"{subject.name} {number}"}))
    return named


def as_json(comparison: SubjectComparison) -> Mapping[str, object]:
    """Return the comparison as small JSON for report data and the registry."""
    return {
        "baseline": comparison.baseline.name,
        "subject": comparison.subject.name,
        "baseline_sha256": comparison.baseline.model_sha256,
        "subject_sha256": comparison.subject.model_sha256,
        "metrics": [
            {
                "metric": metric.metric,
                "rows": metric.rows,
                "before": metric.before,
                "after": metric.after,
                "difference": metric.interval.difference,
                "low": metric.interval.low,
                "high": metric.interval.high,
                "wins": metric.wins,
                "ties": metric.ties,
                "losses": metric.losses,
                "improvement": metric.improvement,
            }
            for metric in comparison.metrics
        ],
    }
