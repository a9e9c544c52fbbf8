"""What an ``examples`` artifact says of itself beside its rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from celery_workers.data.example_making import ExampleMaker
from celery_workers.data.examples_file import ExamplesTable
from celery_workers.data.examples_schema import ExamplesKind
from celery_workers.data.tokenization import Encoder
from celery_workers.modeling.tokenizer import tokenizer_digest


def describe_making(maker: ExampleMaker, encoder: Encoder, folder: Path) -> dict[str, object]:
    """Return how the examples were made, for the model in ``folder``."""
    return {
        "format": maker.row_format.value,
        "kind": maker.kind.value,
        "tokenizer_digest": tokenizer_digest(folder),
        "template": maker.template.name,
        "end_of_turn_token_ids": sorted(encoder.end_of_turn_ids),
        "max_length_tokens": maker.max_length_tokens,
    }


def describe_examples(table: ExamplesTable) -> dict[str, object]:
    """Return the counts of one side of the split.

    ``rows`` are examples, so a pair is one; tokens are those of both its conversations, ``longest_tokens`` and
    ``length_quantiles`` of a single one.
    """
    counts: dict[str, object] = {
        "rows": table.example_count,
        "tokens": table.tokens,
        "supervised_tokens": table.supervised_tokens,
        "longest_tokens": int(table.lengths.max()) if len(table) else 0,
        "length_quantiles": length_quantiles(table.lengths),
    }
    if table.kind is ExamplesKind.KTO:
        counts["desirable_rows"] = int(table.is_desirable.sum())
    return counts


def length_quantiles(lengths: npt.NDArray[np.integer]) -> list[int]:
    """Return 101 evenly spaced quantiles, from the shortest to the longest; empty for no rows. Estimates are made from them."""
    return [round(float(value)) for value in np.quantile(lengths, np.linspace(0, 1, 101))] if len(lengths) else []
