"""How many tokens the rows of a file have, by a tokenizer: of all rows, or of a seeded sample where they are many."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from celery_workers.contract.errors import UserInputError
from celery_workers.contract.measures import MeasuredFile, TokenLengths
from celery_workers.data.canonical import texts, to_canonical
from celery_workers.data.formats import FileFormat, read_rows
from celery_workers.data.importing import open_rows
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.rows import SourceFile, SourceRow

MAX_SAMPLED_ROWS = 5000
MAX_SAMPLED_CHARACTERS = 10_000_000
"""About as many as are tokenized in five seconds."""
BATCH_ROWS = 200
HISTOGRAM_EDGES = (0, *(2**power for power in range(17)))
"""Lower edges of the length histogram, in tokens."""

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""Gives the number of tokens of each text, special tokens not counted."""


def count_lengths(file: MeasuredFile, count: CountTokens, *, seed: int = 0) -> TokenLengths:
    """Count the tokens of a row's texts, without a template, over at most ``MAX_SAMPLED_ROWS`` rows.

    Raises: UserInputError: the file cannot be read, or none of the rows has a text.
    """
    lengths: list[int] = []
    numbers: list[int] = []
    characters = 0
    wanted = _positions(file, seed=seed)
    for rows in _batches(file, wanted):
        flat = [text for _, row_texts in rows for text in row_texts]
        counts = iter(count(flat))
        for number, row_texts in rows:
            lengths.append(sum(next(counts) for _ in row_texts))
            numbers.append(number)
        characters += sum(map(len, flat))
    if not lengths:
        raise UserInputError("none of the rows that were looked at can be read", code="no_rows")
    return _summed_up(lengths, numbers, characters, sample="all" if wanted is None else "seeded")


def _positions(file: MeasuredFile, *, seed: int) -> frozenset[int] | None:
    """Return the positions of the rows to look at; None for all."""
    most = MAX_SAMPLED_ROWS
    if file.rows and file.characters:
        most = min(most, max(1, int(MAX_SAMPLED_CHARACTERS / (file.characters / file.rows))))
    if file.rows <= most:
        return None
    return frozenset(random.Random(seed).sample(range(file.rows), most))  # noqa: S311 (the same file gives the same sample)


def _batches(file: MeasuredFile, wanted: frozenset[int] | None) -> Iterator[list[tuple[int, list[str]]]]:
    """Yield batches of row numbers with the texts of the rows that can be read."""
    source, file_format = SourceFile(path=Path(file.path), name=file.file_name), FileFormat(file.file_format)
    detected = open_rows(source, file_format=file_format, row_format=RowFormat(file.row_format)).detected
    batch: list[tuple[int, list[str]]] = []
    for row in _chosen((row for rows in read_rows(source, file_format) for row in rows.rows), wanted):
        if row.values is None:
            continue
        batch.append((row.number, [text for _, text in texts(to_canonical(row, detected).values, detected.format)]))
        if len(batch) >= BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _chosen(rows: Iterator[SourceRow], wanted: frozenset[int] | None) -> Iterator[SourceRow]:
    if wanted is None:
        yield from rows
        return
    left = len(wanted)
    for position, row in enumerate(rows):
        if position in wanted:
            yield row
            left -= 1
            if not left:
                return


def _summed_up(lengths: Sequence[int], numbers: Sequence[int], characters: int, *, sample: str) -> TokenLengths:
    ordered = sorted(lengths)
    histogram = [0] * len(HISTOGRAM_EDGES)
    for length in lengths:
        histogram[bisect_right(HISTOGRAM_EDGES, length) - 1] += 1
    bins = 1 + max(index for index, rows in enumerate(histogram) if rows)
    return TokenLengths(
        sample="all" if sample == "all" else "seeded",
        rows=len(lengths),
        tokens=sum(lengths),
        characters=characters,
        **{name: ordered[int(part * (len(ordered) - 1))] for name, part in (("median", 0.5), ("p90", 0.9), ("p99", 0.99))},
        longest=ordered[-1],
        longest_row=numbers[lengths.index(ordered[-1])],
        histogram_edges=list(HISTOGRAM_EDGES[:bins]),
        histogram_rows=histogram[:bins],
    )
