"""Confidence intervals of a paired difference, by resampling rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_RESAMPLES_AT_ONCE = 1_000_000  # row draws held in memory at once: 8 MB


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A difference with the ends of its confidence interval."""

    difference: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def paired_difference(
    before: Sequence[float],
    after: Sequence[float],
    *,
    weights: Sequence[float],
    resamples: int,
    confidence: float,
    seed: int,
) -> Interval:
    """Return the difference of the weighted means, ``after`` less ``before``, with its percentile bootstrap interval.

    Rows are drawn with replacement, both values of a row and its weight together, so that what makes a row hard for both
    models cancels out; a resample's mean divides by the weights that it drew. ``confidence`` lies between 0 and 1. The same
    seed gives the same interval.

    Raises: ValueError: no rows, or different numbers of them.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 8 (paired data) and 13 (percentiles).
    """
    import numpy as np

    if not before or not len(before) == len(after) == len(weights):
        raise ValueError(f"needs equally many values, at least one, got {len(before)}, {len(after)} and {len(weights)}")
    weight = np.asarray(weights, dtype=np.float64)
    change = (np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)) * weight
    generator = np.random.default_rng(seed)
    rows = len(change)
    block = max(1, _RESAMPLES_AT_ONCE // rows)
    differences = np.empty(resamples)
    for start in range(0, resamples, block):
        drawn = generator.integers(rows, size=(min(block, resamples - start), rows))  # (resamples, rows)
        differences[start : start + len(drawn)] = change[drawn].sum(axis=1) / weight[drawn].sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return Interval(difference=float(change.sum() / weight.sum()), low=float(low), high=float(high))
