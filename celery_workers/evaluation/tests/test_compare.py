"""Verdicts, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from celery_workers.contract.errors import UserInputError
from celery_workers.evaluation.compare import Resampling, compare, gather_subjects, pick_baseline, verdict
from celery_workers.evaluation.subject import EvaluationData, Role, Subject, SubjectRow

RESAMPLING = Resampling(resamples=2000, confidence=0.95, minimum_rows=10, seed=1)


def make_subject(
    name: str,
    *,
    matches: Sequence[bool],
    losses: Sequence[float | None] | None = None,
    role: Role = Role.TUNED,
    first_row: int = 1,
) -> Subject:
    losses = losses or [1.0] * len(matches)
    rows = [
        SubjectRow(
            row_number=first_row + index, loss=loss, supervised_tokens=4, exact_match=match, generated="a", reference="a"
        )
        for index, (match, loss) in enumerate(zip(matches, losses, strict=True))
    ]
    return Subject(
        name=name,
        role=role,
        model_sha256=f"sha of {name}",
        base_model="bundled:tiny",
        model_kind="base" if role is Role.BASE else "adapter",
        precision="float32",
        scores={"loss": 1.0, "exact_match": sum(matches) / len(matches)},
        rows=rows,
    )


def make_evaluation(*subjects: Subject, examples_sha256: str = "e1", match: str = "none") -> EvaluationData:
    return EvaluationData(examples_sha256=examples_sha256, match=match, max_new_tokens=8, subjects=list(subjects))


BASE = make_subject("base", matches=[False] * 38 + [True] * 2, role=Role.BASE)
TUNED = make_subject("tuned", matches=[True] * 38 + [False, True])


def test_a_clear_gain_is_named_with_its_interval() -> None:
    comparison = compare(BASE, TUNED, RESAMPLING)

    exact_match = next(metric for metric in comparison.metrics if metric.metric == "exact_match")
    assert exact_match.interval.difference == pytest.approx(37 / 40)
    assert (exact_match.wins, exact_match.ties, exact_match.losses) == (38, 1, 1)
    sentence = verdict(comparison, confidence=0.95)
    low, high = exact_match.interval.low, exact_match.interval.high
    assert sentence == f"tuned is better: exact match +0.93, 95 % interval [{low:.2f}, {high:.2f}]"
    assert 0.75 < low < 37 / 40 < high <= 1


def test_rows_that_only_the_base_had_right_got_worse() -> None:
    comparison = compare(BASE, TUNED, RESAMPLING)

    assert [comparison.subject.rows[place].row_number for place in comparison.newly_wrong] == [39]
    assert len(comparison.newly_right) == 38


def test_equal_models_show_no_difference() -> None:
    twin = make_subject("twin", matches=[row.exact_match is True for row in BASE.rows])

    sentence = verdict(compare(BASE, twin, RESAMPLING), confidence=0.95)

    assert sentence.startswith("no difference shown between twin and base: exact match +0.00, 95 % interval [0.00, 0.00]")


def test_few_rows_give_no_verdict() -> None:
    base = make_subject("base", matches=[False] * 9, role=Role.BASE)
    tuned = make_subject("tuned", matches=[True] * 9)

    assert "9 rows are too few" in verdict(compare(base, tuned, RESAMPLING), confidence=0.95)


def test_metrics_that_contradict_each_other_are_both_named() -> None:
    tuned = make_subject("tuned", matches=[True] * 40, losses=[2.0] * 40)

    sentence = verdict(compare(BASE, tuned, RESAMPLING), confidence=0.95)

    assert sentence.startswith("tuned is better on one metric and worse on another: exact match +0.95")
    assert "loss +1.00" in sentence


def test_a_lower_loss_is_better_and_weighs_tokens() -> None:
    base = make_subject("base", matches=[True] * 20, losses=[2.0] * 20, role=Role.BASE)
    tuned = make_subject("tuned", matches=[True] * 20, losses=[1.5] * 19 + [2.5])

    comparison = compare(base, tuned, RESAMPLING)

    loss = next(metric for metric in comparison.metrics if metric.metric == "loss")
    assert (loss.improvement, loss.wins, loss.losses) == (1, 19, 1)
    assert loss.before == pytest.approx(2.0)
    assert loss.after == pytest.approx(1.55)


def test_a_loss_that_is_not_finite_is_not_left_out() -> None:
    tuned = make_subject("tuned", matches=[True] * 40, losses=[None, *[1.0] * 39])

    with pytest.raises(UserInputError, match="loss of tuned is not a finite number on 1 of 40 rows, first on row 1"):
        compare(BASE, tuned, RESAMPLING)


def test_one_model_in_two_reports_counts_once() -> None:
    subjects = gather_subjects([make_evaluation(BASE, TUNED), make_evaluation(BASE)])

    assert [subject.name for subject in subjects] == ["base", "tuned"]
    assert pick_baseline(subjects, "").name == "base"


def test_models_of_one_name_get_numbers() -> None:
    other = TUNED.model_copy(update={"model_sha256": "another"})

    subjects = gather_subjects([make_evaluation(TUNED), make_evaluation(other)])

    assert [subject.name for subject in subjects] == ["tuned", "tuned 2"]
    assert pick_baseline(subjects, "tuned 2").model_sha256 == "another"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (make_evaluation(make_subject("tuned", matches=[True] * 39)), "got 40 rows and 39 rows"),
        (make_evaluation(make_subject("tuned", matches=[True] * 40, first_row=2)), "example 1 is row 1 .* row 2"),
        (make_evaluation(TUNED, examples_sha256="e2"), "same examples, got two sets with digests e1 and e2"),
        (make_evaluation(TUNED, match="json"), "got match none and json"),
        (make_evaluation(BASE), r"at least 2 different models, got 1 \(base\)"),
    ],
)
def test_what_cannot_be_paired_is_refused(other: EvaluationData, message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        gather_subjects([make_evaluation(BASE), other])


def test_an_unknown_baseline_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UserInputError, match="baseline must be one of base, tuned, got 'best'"):
        pick_baseline([BASE, TUNED], "best")
