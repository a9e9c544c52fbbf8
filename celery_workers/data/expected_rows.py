"""What the data steps will make, told from the numbers of the file alone."""

from __future__ import annotations

from collections.abc import Mapping

from celery_workers.contract.estimates import JsonObject

CHARACTERS_A_TOKEN = 3.8
"""English prose and code with the vocabularies of today's models; other scripts have fewer."""

TEMPLATE_TOKENS = 18
"""What a chat template adds to a row of two messages."""

SUPERVISED_SHARE = 0.45
"""Of the tokens of a chat row, its answers."""

LONGEST_OVER_MEAN = 4.0
BYTES_A_ROW_SECOND, ROWS_A_SECOND = 8e6, 1_500.0


def expected_dataset(file: Mapping[str, object], *, limit: int | None) -> JsonObject:
    """Return the metadata that the rows of a data file will have, as far as it is known."""
    rows, characters = number(file, "rows"), number(file, "characters")
    kept = min(rows, limit) if limit else rows
    part = kept / rows if rows else 0.0
    return {**file, "rows": int(kept), "characters": int(characters * part)}


def expected_examples(dataset: Mapping[str, object], *, longest: int, base_model: str) -> JsonObject:
    """Return the metadata that the examples of these rows will have. Rows beyond ``longest`` tokens count as cut to it."""
    rows = number(dataset, "rows")
    is_text = dataset.get("format") == "text"
    tokens = number(dataset, "characters") / CHARACTERS_A_TOKEN + (0 if is_text else TEMPLATE_TOKENS * rows)
    mean = tokens / rows if rows else 0.0
    share = 1.0 if is_text else SUPERVISED_SHARE
    return {
        "rows": int(rows),
        "tokens": int(tokens),
        "supervised_tokens": int(tokens * share),
        "max_length_tokens": int(min(longest, LONGEST_OVER_MEAN * mean)),
        "base_model": base_model,
        "format": dataset.get("format"),
        "is_guessed": True,
    }


def part_of(examples: Mapping[str, object], share: float) -> JsonObject:
    """Return ``examples`` with ``share`` of its rows, 0 to 1."""
    counts = {name: int(number(examples, name) * share) for name in ("rows", "tokens", "supervised_tokens")}
    return {**examples, **counts}


def number(metadata: Mapping[str, object], name: str) -> float:
    """Return a number of the metadata; 0 where it is not known."""
    value = metadata.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
