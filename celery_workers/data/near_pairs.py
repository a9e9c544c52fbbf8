"""The near duplicates of a file as pairs of rows to review."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path

from celery_workers.contract.measures import FoundPair, FoundPairs, MeasuredFile
from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.dedup import comparison_text
from celery_workers.data.formats import FileFormat
from celery_workers.data.importing import open_rows
from celery_workers.data.near_dedup import NearDuplicateFinder
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.rows import SourceFile

MAX_COMPARED_ROWS = 200_000
MAX_PAIRS = 2000


def find_pairs(file: MeasuredFile, scratch: Path, *, threshold: float) -> FoundPairs:
    """Pair each row that nearly repeats an earlier one with that one, the most similar pairs first.

    At most ``MAX_COMPARED_ROWS`` rows are compared and ``MAX_PAIRS`` pairs kept; the answer counts what is beyond. ``scratch``
    is a file to be written, which is gone afterwards.

    Raises: UserInputError: the file cannot be read.
    """
    finder = NearDuplicateFinder(scratch, threshold=threshold)
    try:
        numbers: list[int] = []
        for rows in _batches(file):
            taken = rows[: MAX_COMPARED_ROWS - len(numbers)]
            finder.add([comparison_text(row.values) for row in taken])
            numbers += [row.number for row in taken]
            if len(numbers) >= MAX_COMPARED_ROWS:
                break
        found = finder.find(after_each=lambda: None)
    finally:
        finder.close()
    repeats = heapq.nsmallest(MAX_PAIRS, found.repeats.values(), key=lambda pair: (-pair.similarity, pair.position))
    pairs = [
        FoundPair(first=numbers[pair.other], second=numbers[pair.position], similarity=pair.similarity) for pair in repeats
    ]
    return FoundPairs(
        threshold=threshold, rows=file.rows, compared_rows=len(numbers), capped_rows=found.capped,
        pairs_total=len(found.repeats), pairs=pairs,
    )  # fmt: skip


def _batches(file: MeasuredFile) -> Iterator[list[CanonicalRow]]:
    """Yield the rows that have a text to compare."""
    source = SourceFile(path=Path(file.path), name=file.file_name)
    opened = open_rows(source, file_format=FileFormat(file.file_format), row_format=RowFormat(file.row_format))
    for rows, _ in opened:
        yield [row for row in rows if comparison_text(row.values).strip()]
