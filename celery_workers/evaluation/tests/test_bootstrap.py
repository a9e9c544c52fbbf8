"""Intervals against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from celery_workers.evaluation.bootstrap import paired_difference

SETTINGS = {"resamples": 10_000, "confidence": 0.95, "seed": 7}


def test_interval_of_a_mean_agrees_with_the_normal_approximation() -> None:
    # The bootstrap distribution of a mean has the standard error sqrt(p (1 - p) / n) with p the share of ones.
    rows = 400
    after = [1.0] * 300 + [0.0] * 100
    before = [0.0] * rows

    interval = paired_difference(before, after, weights=[1.0] * rows, **SETTINGS)

    error = 1.96 * np.sqrt(0.75 * 0.25 / rows)
    assert interval.difference == 0.75
    assert interval.low == pytest.approx(0.75 - error, abs=0.004)
    assert interval.high == pytest.approx(0.75 + error, abs=0.004)


def test_a_constant_change_has_an_interval_of_no_width() -> None:
    before = [0.5, 3.0, 1.25, 8.0]

    interval = paired_difference(before, [value - 0.25 for value in before], weights=[1.0, 5.0, 2.0, 9.0], **SETTINGS)

    assert (interval.low, interval.difference, interval.high) == pytest.approx((-0.25, -0.25, -0.25))
    assert interval.excludes_zero


def test_weights_give_the_difference_of_weighted_means() -> None:
    before, after, weights = [2.0, 4.0, 1.0], [1.0, 5.0, 1.0], [10.0, 1.0, 4.0]

    interval = paired_difference(before, after, weights=weights, **SETTINGS)

    assert interval.difference == pytest.approx(np.average(after, weights=weights) - np.average(before, weights=weights))


def test_noise_around_zero_does_not_exclude_it_more_often_than_the_confidence_allows() -> None:
    generator = np.random.default_rng(3)
    excluded = 0
    for seed in range(100):
        before, after = generator.normal(size=(2, 60)).tolist()
        settings = {"resamples": 1000, "confidence": 0.95, "seed": seed}
        excluded += paired_difference(before, after, weights=[1.0] * 60, **settings).excludes_zero

    assert excluded <= 13  # 5 of 100 expected; 14 or more has probability 3e-4


def test_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    generator = np.random.default_rng(0)
    before, after = generator.normal(size=(2, 50)).tolist()
    weights = [1.0] * 50

    first = paired_difference(before, after, weights=weights, **SETTINGS)

    assert first == paired_difference(before, after, weights=weights, **SETTINGS)
    assert first != paired_difference(before, after, weights=weights, **{**SETTINGS, "seed": 8})


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        paired_difference([], [], weights=[], **SETTINGS)
