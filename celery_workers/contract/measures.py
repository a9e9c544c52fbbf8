"""What the server asks a measuring process, and its answer: one JSON document each, on its standard input and output."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from celery_workers.contract.messages import Message
from celery_workers.contract.tokens import Refused


class MeasuredFile(Message):
    """The file of a dataset version. ``rows`` and ``characters`` are what its import counted."""

    path: str
    file_name: str
    file_format: str
    row_format: str
    rows: int
    characters: int = 0


class CountTokens(Message):
    """Count the tokens of rows with the tokenizer in ``folder``; ``bundled`` as in ``tokens.Load``."""

    type: Literal["tokens"] = "tokens"
    file: MeasuredFile
    folder: str
    bundled: str | None = None


class FindPairs(Message):
    """Find near duplicates; ``threshold`` is the smallest similarity (Jaccard of 8-byte shingles, 0 to 1)."""

    type: Literal["near_duplicates"] = "near_duplicates"
    file: MeasuredFile
    threshold: float = Field(ge=0.5, le=1)


class TokenLengths(Message):
    """Tokens of a row's texts, without a template. ``sample``: ``all`` rows, or a ``seeded`` choice of them.

    ``histogram_rows[i]`` rows have at least ``histogram_edges[i]`` tokens, and less than the next edge.
    """

    type: Literal["token_lengths"] = "token_lengths"
    sample: Literal["all", "seeded"]
    rows: int
    tokens: int
    characters: int
    median: int
    p90: int
    p99: int
    longest: int
    longest_row: int
    """Its row number."""
    histogram_edges: list[int]
    histogram_rows: list[int]


class FoundPair(Message):
    """A row that nearly repeats an earlier one, by their numbers."""

    first: int
    second: int
    similarity: float


class FoundPairs(Message):
    """``pairs`` are the most similar ones where there are more than can be kept; ``pairs_total`` counts all.

    ``compared_rows`` of ``rows`` were compared: the first ones, where there are too many. ``capped_rows`` resemble so many
    others that they were not compared with all of them.
    """

    type: Literal["found_pairs"] = "found_pairs"
    threshold: float
    rows: int
    compared_rows: int
    capped_rows: int
    pairs_total: int
    pairs: list[FoundPair]


Measure = Annotated[CountTokens | FindPairs, Field(discriminator="type")]
Measured = Annotated[TokenLengths | FoundPairs | Refused, Field(discriminator="type")]
to_measure: TypeAdapter[Measure] = TypeAdapter(Measure)
from_measure: TypeAdapter[Measured] = TypeAdapter(Measured)
