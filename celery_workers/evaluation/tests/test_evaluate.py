"""Scores over rows."""

from __future__ import annotations

import math

import pytest

from celery_workers.evaluation.evaluate import overall_scores
from celery_workers.evaluation.subject import SubjectRow

EVERY = frozenset({"loss", "perplexity", "exact_match"})


def test_loss_is_per_token_not_per_row() -> None:
    rows = [
        SubjectRow(row_number=1, loss=1.0, supervised_tokens=9, exact_match=True),
        SubjectRow(row_number=2, loss=3.0, supervised_tokens=1, exact_match=False),
        SubjectRow(row_number=3, loss=None, supervised_tokens=0),
    ]

    scores = overall_scores(rows, EVERY)

    assert scores["loss"] == pytest.approx(1.2)
    assert scores["perplexity"] == pytest.approx(math.exp(1.2))
    assert scores["exact_match"] == 0.5
    assert (scores["rows"], scores["supervised_tokens"]) == (3, 10)


def test_one_loss_that_is_not_finite_makes_the_overall_loss_null() -> None:
    rows = [SubjectRow(row_number=1, loss=1.0, supervised_tokens=9), SubjectRow(row_number=2, loss=None, supervised_tokens=1)]

    assert overall_scores(rows, EVERY) == {
        "loss": None,
        "perplexity": None,
        "exact_match": None,
        "rows": 2,
        "supervised_tokens": 10,
    }


def test_only_what_was_asked_for_is_scored() -> None:
    rows = [SubjectRow(row_number=1, loss=1000.0, supervised_tokens=9)]

    assert overall_scores(rows, frozenset({"perplexity"})) == {"perplexity": None, "rows": 1, "supervised_tokens": 9}
