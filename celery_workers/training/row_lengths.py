"""The lengths of rows before they are there, or without reading them: from the few numbers that the metadata keeps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from celery_workers.data.expected_rows import number

MOST_ROWS = 100_000
"""More are not laid out one by one: the batches of so many are like those of all."""


def expected_lengths(examples: Mapping[str, object]) -> npt.NDArray[np.int32]:
    """Return lengths in tokens, (N,) int32 with N at most ``MOST_ROWS``, that rows with this metadata have.

    ``length_quantiles`` gives their very distribution. Without it a power law meets mean and maximum. The order is mixed, the
    same at every call.
    """
    rows, tokens = number(examples, "rows"), number(examples, "tokens")
    if rows < 1 or tokens < 1:
        return np.zeros(0, dtype=np.int32)
    places = (np.arange(min(int(rows), MOST_ROWS)) + 0.5) / min(int(rows), MOST_ROWS)
    quantiles = examples.get("length_quantiles")
    if isinstance(quantiles, list) and len(quantiles) > 1:
        # in logarithms: straight lines between quantiles would make a long tail too heavy
        lengths = np.exp(np.interp(places, np.linspace(0, 1, len(quantiles)), np.log(np.maximum(1, quantiles))))
    else:
        mean = tokens / rows
        longest = max(number(examples, "longest_tokens") or number(examples, "max_length_tokens"), mean)
        shortest = 0.4 * mean
        power = (longest - shortest) / (mean - shortest) - 1  # the mean of shortest + (longest - shortest) u^power
        lengths = shortest + (longest - shortest) * places**power
    return np.random.default_rng(0).permutation(np.maximum(1, np.rint(lengths))).astype(np.int32)
