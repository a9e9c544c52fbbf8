"""The report of preprocessing: rows before and after each step, lengths, share of trained tokens, and marked samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from celery_workers.contract.context import Figure, ReportDocument, Series, Table
from celery_workers.data import selection_report
from celery_workers.data.example_making import MakingCounts
from celery_workers.data.examples_file import ExamplesTable
from celery_workers.data.examples_schema import ExamplesKind
from celery_workers.data.selection_counts import SelectionCounts

_BINS = 24

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Everything that the report tells about."""

    selection: SelectionCounts
    making: MakingCounts
    train: ExamplesTable
    held_out: ExamplesTable
    samples: list[dict[str, object]]
    settings: dict[str, object]
    split_at_answer_rows: int


def describe(preparation: Preparation) -> ReportDocument:
    """Return the report."""
    train, held_out = preparation.train, preparation.held_out
    dropped = preparation.selection.rows - preparation.selection.kept_rows + preparation.making.dropped_rows
    share = train.supervised_tokens / train.tokens if train.tokens else 0.0
    return ReportDocument(
        kind="preprocessing",
        title="Preprocessing",
        summary={
            "rows": preparation.selection.rows,
            "train_rows": train.example_count,
            "eval_rows": held_out.example_count,
            "dropped_rows": dropped,
            "train_tokens": train.tokens,
            "supervised_share": round(share, 4),
            "longest_tokens": preparation.making.longest_tokens,
        },
        verdict=_verdict(preparation, dropped),
        tables=[
            _steps(preparation),
            _cleaning(preparation.selection),
            _sides(preparation),
            *_answers(preparation),
            _notes(preparation),
            *selection_report.tables(preparation.selection),
        ],
        figures=[_lengths(preparation)],
        samples=preparation.samples,
        data={
            "settings": preparation.settings,
            "duplicates": [{"row": row, "same_as": first} for row, first in preparation.selection.duplicates],
            "emptied_rows": preparation.selection.emptied,
            "too_long_rows": preparation.making.too_long,
            "rows_with_special_tokens": preparation.making.with_special_tokens,
            **selection_report.evidence(preparation.selection),
        },
    )


def _verdict(preparation: Preparation, dropped: int) -> str:
    making, parts = preparation.making, []
    if dropped:
        selection = preparation.selection
        reasons = [
            f"{selection.duplicate_rows} repeat another",
            f"{selection.emptied_rows} were empty after cleaning",
            f"{making.dropped_rows} were too long",
            *selection_report.left_out(selection),
        ]
        parts.append(f"{dropped} of {selection.rows} rows were left out: {', '.join(reasons)}.")
    if making.cut_prompt_rows:
        parts.append(f"{making.cut_prompt_rows} rows were truncated: they lost the beginning of their prompt.")
    elif making.truncated_rows:
        parts.append(
            f"{making.truncated_rows} rows were truncated; {making.cut_answer_rows} of them lost the end of an answer."
        )
    if making.chunked_rows:
        parts.append(f"{making.chunked_rows} rows were cut into {making.chunks} examples.")
    if making.special_token_rows:
        parts.append(f"{making.special_token_rows} rows spell out special tokens, which the model reads as such.")
    parts += selection_report.warnings(preparation.selection)
    return " ".join(parts) or "Every row became an example."


def _steps(preparation: Preparation) -> Table:
    selection, making = preparation.selection, preparation.making
    dropped = [
        ("read", 0),
        ("cleaning", selection.emptied_rows),
        *([("language", selection.other_language_rows)] if selection.languages is not None else []),
        ("exact duplicates", selection.duplicate_rows),
        *([("near duplicates", selection.near_dropped_rows)] if selection.near_duplicates != "off" else []),
        *([("evaluation sets", selection.contaminated_rows)] if selection.evaluation_rows else []),
        ("length in tokens", making.dropped_rows),
    ]
    steps, left = [], selection.rows
    for name, count in dropped:
        steps.append((name, left, left - count))
        left -= count
    return Table(
        title="Rows, step by step",
        columns=["step", "before", "after", "dropped"],
        rows=[[name, before, after, before - after] for name, before, after in steps],
    )


def _cleaning(selection: SelectionCounts) -> Table:
    return Table(
        title="Rows changed by cleaning",
        columns=["step", "rows"],
        rows=[[step, count] for step, count in selection.cleaned_rows.items() if step != "any"],
    )


def _sides(preparation: Preparation) -> Table:
    rows: list[list[str | int | float | bool | None]] = []
    for name, table in (("train", preparation.train), ("eval", preparation.held_out)):
        longest = int(table.lengths.max()) if len(table) else 0
        share = round(table.supervised_tokens / table.tokens, 4) if table.tokens else 0.0
        rows.append([name, table.example_count, table.tokens, table.supervised_tokens, share, longest])
    return Table(
        title="Examples",
        columns=["side", "rows", "tokens", "supervised_tokens", "supervised_share", "longest_tokens"],
        rows=rows,
    )


def _answers(preparation: Preparation) -> list[Table]:
    """Return the table of what distinguishes compared or judged answers; none where they are simply learned."""
    kind = preparation.train.kind
    if kind is ExamplesKind.SUPERVISED:
        return []
    rows: list[list[str | int | float | bool | None]] = []
    for name, table in (("train", preparation.train), ("eval", preparation.held_out)):
        for answer, positions in _by_answer(table).items():
            counts = table.supervised_counts[positions]
            median = int(np.median(counts)) if len(counts) else 0
            rows.append([name, answer, len(counts), int(counts.sum(dtype=np.int64)), median])
    return [Table(title="Answers", columns=["side", "answer", "rows", "supervised_tokens", "median_tokens"], rows=rows)]


def _by_answer(table: ExamplesTable) -> dict[str, Positions]:
    if table.kind is ExamplesKind.PREFERENCE:
        return {"chosen": table.pairs[:, 0], "rejected": table.pairs[:, 1]}
    return {"wanted": np.flatnonzero(table.is_desirable), "unwanted": np.flatnonzero(~table.is_desirable)}


def _notes(preparation: Preparation) -> Table:
    making = preparation.making
    counts = {
        "longer than the limit": making.too_long_rows,
        "dropped for their length": making.dropped_rows,
        "truncated": making.truncated_rows,
        "truncated, and an answer lost its end": making.cut_answer_rows,
        **({"truncated, and the prompt lost its beginning": making.cut_prompt_rows} if making.cut_prompt_rows else {}),
        "tokens cut away": making.tokens_cut,
        "cut into chunks": making.chunked_rows,
        "chunks of these": making.chunks,
        "spell out a special token": making.special_token_rows,
        "prompt and answer tokenized apart": preparation.split_at_answer_rows,
    }
    return Table(title="Counted", columns=["what", "count"], rows=[[what, count] for what, count in counts.items()])


def _lengths(preparation: Preparation) -> Figure:
    longest = max((int(table.lengths.max()) for table in (preparation.train, preparation.held_out) if len(table)), default=1)
    width = max(1, -(-(longest + 1) // _BINS))
    series = [
        _histogram("train", preparation.train.lengths.tolist(), width),
        _histogram("eval", preparation.held_out.lengths.tolist(), width),
    ]
    return Figure(title="Length of examples", type="histogram", x_label="tokens, from", y_label="rows", series=series)


def _histogram(name: str, lengths: Sequence[int], width: int) -> Series:
    counts = [0] * _BINS
    for length in lengths:
        counts[length // width] += 1
    return Series(name=name, x=[float(index * width) for index in range(_BINS)], y=[float(count) for count in counts])
