"""Tokenized examples as questions: the prompt, the reference answer, and what is scored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from celery_workers.contract.errors import UserInputError

TEXT = "text"
IGNORED = -100  # label of a token that is not trained on; the value torch's cross entropy ignores


@dataclass(frozen=True, kw_only=True)
class EvaluationRow:
    """One example. ``prompt_ids`` are the tokens before the first supervised segment, ``reference_ids`` that segment."""

    row_number: int
    input_ids: list[int]
    labels: list[int]
    prompt_ids: list[int]
    reference_ids: list[int]

    @property
    def supervised_tokens(self) -> int:
        """Number of scored tokens. The first token of a row has nothing before it, so it is never scored."""
        return sum(label != IGNORED for label in self.labels[1:])

    @property
    def has_question(self) -> bool:
        """Whether there is a prompt to generate from and a reference to compare with."""
        return bool(self.prompt_ids and self.reference_ids)


def read_rows(folder: Path, *, row_format: str, max_rows: int | None = None) -> list[EvaluationRow]:
    """Read the first ``max_rows`` examples of ``folder``, or all, in the order of the file.

    ``row_format`` is the examples' (alpaca, chat, prompt_completion, text). Rows of plain text ask nothing: what stands
    before their first supervised token is only the one token that no model can predict.

    Raises: UserInputError: there is none, none has a supervised token, or they are answers to compare or judge.
    """
    from celery_workers.data.examples_file import open_examples
    from celery_workers.data.examples_schema import ExamplesKind

    table = open_examples(folder)
    if table.kind is not ExamplesKind.SUPERVISED:
        raise UserInputError(
            f"an evaluation needs answers that are right, and examples of the kind {table.kind.value} hold unwanted ones, too; "
            "prepare an evaluation set of a format such as chat or prompt_completion",
            code="wrong_examples_kind",
            evidence={"kind": table.kind.value},
        )
    count = len(table) if max_rows is None else min(max_rows, len(table))
    rows = [
        split_row(
            row_number=table.row_number(position),
            input_ids=table.input_ids(position).tolist(),
            labels=table.labels(position).tolist(),
        )
        for position in range(count)
    ]
    if row_format == TEXT:
        rows = [replace(row, prompt_ids=[]) for row in rows]
    if not any(row.supervised_tokens for row in rows):
        raise UserInputError(
            f"an evaluation needs at least one row with a supervised token, got {len(rows)} rows without any; "
            "give preprocessing a larger eval share",
            code="nothing_to_evaluate",
        )
    return rows


def split_row(*, row_number: int, input_ids: Sequence[int], labels: Sequence[int]) -> EvaluationRow:
    """Split an example at its first supervised segment.

    Raises: ValueError: ids and labels differ in length.
    """
    if len(input_ids) != len(labels):
        raise ValueError(f"row {row_number} has {len(input_ids)} input ids but {len(labels)} labels")
    start = next((index for index, label in enumerate(labels) if label != IGNORED), len(labels))
    end = next((index for index in range(start, len(labels)) if labels[index] == IGNORED), len(labels))
    return EvaluationRow(
        row_number=row_number,
        input_ids=list(input_ids),
        labels=list(labels),
        prompt_ids=list(input_ids[:start]),
        reference_ids=list(input_ids[start:end]),
    )


def stop_token_ids(
    rows: Iterable[EvaluationRow], *, eos_token_ids: Iterable[int], special_token_ids: Iterable[int]
) -> frozenset[int]:
    """Return the tokens that end an answer: the model's own, and every special token inside the references.

    A named template may end a turn by a token that the model's generation config does not know.
    """
    special = frozenset(special_token_ids)
    return frozenset(eos_token_ids).union(*(special.intersection(row.reference_ids) for row in rows))


def length_sorted_batches(lengths: Sequence[int], *, max_rows: int, max_tokens: int) -> list[list[int]]:
    """Group indices by falling length, so that little is padded and the largest batch comes first.

    ``max_tokens`` bounds rows times longest length; a single longer row makes a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        batch = batches[-1] if batches else None
        if batch is not None and len(batch) < max_rows and (len(batch) + 1) * lengths[batch[0]] <= max_tokens:
            batch.append(index)
        else:
            batches.append([index])
    return batches
