"""The examples that an objective draws: rows, or pairs of rows, with the tokens it trains.

Everything that a micro-batch of them holds beside the joined tokens is looked up here: which rows are desirable, and what
the reference said of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from celery_workers.contract.errors import UserInputError
from celery_workers.data.examples_file import IGNORED_LABEL, ExamplesTable
from celery_workers.data.examples_schema import ExamplesKind
from celery_workers.training.batches import Indices, Lengths, MicroBatch, Row, join
from celery_workers.training.config import TrainingConfig

KINDS = {
    "sft": ExamplesKind.SUPERVISED,
    "pretraining": ExamplesKind.SUPERVISED,
    "dpo": ExamplesKind.PREFERENCE,
    "orpo": ExamplesKind.PREFERENCE,
    "kto": ExamplesKind.KTO,
}
DESCRIPTIONS = {
    ExamplesKind.SUPERVISED: "rows to imitate",
    ExamplesKind.PREFERENCE: "pairs of a chosen and a rejected answer",
    ExamplesKind.KTO: "answers marked desirable or not",
}
FORMATS = {
    ExamplesKind.SUPERVISED: "chat, alpaca, prompt_completion or text",
    ExamplesKind.PREFERENCE: "preference",
    ExamplesKind.KTO: "kto",
}

_PARTNERS_STREAM = 0x6B746F
"""Keeps the draw of partners apart from the orders of the epochs, which are seeded by [seed, epoch]."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the model said as the training began: summed log-probabilities (rows,) float32 of each row's supervised tokens,
    and of its mismatched completion's, where the objective has them."""

    rows: torch.Tensor
    mismatched: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class ExampleSet:
    """``rows`` (examples, 1) or (examples, 2) int64: the positions of each example's rows in the table; of a pair the
    chosen row, then the rejected one. ``is_desirable`` (rows of the table,) bool, ``partners`` (rows of the table,) int64:
    whose completion is joined to a row's prompt to make the mismatched one; both for KTO only."""

    table: ExamplesTable
    rows: Indices
    trains_all: bool = False
    is_desirable: npt.NDArray[np.bool_] | None = None
    partners: Indices | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def lengths(self) -> Lengths:
        """Tokens of each example, (examples,) int32; mismatched completions not counted."""
        return self.table.lengths[self.rows].sum(axis=1, dtype=np.int32)

    def row_numbers(self, examples: Indices) -> list[int]:
        """Return the numbers of the examples' rows in the source file, each once, in order."""
        numbers = self.table.row_numbers[self.rows[examples].ravel()]
        return list(dict.fromkeys(int(number) for number in numbers))

    def count(self, examples: Indices) -> dict[str, int]:
        """Return the fields of ``Totals`` that the examples add up to."""
        rows = self.rows[examples]
        counts = np.maximum(self.table.lengths[rows] - 1, 0) if self.trains_all else self.table.supervised_counts[rows]
        return {
            "supervised_tokens": int(counts.sum(dtype=np.int64)),
            "chosen_tokens": int(counts[:, 0].sum(dtype=np.int64)),
            "examples": len(rows),
            "desirable": 0 if self.is_desirable is None else int(np.count_nonzero(self.is_desirable[rows])),
        }

    def row(self, position: int) -> Row:
        """Return the token ids and labels of a row as they are trained."""
        ids = self.table.input_ids(position)
        if self.trains_all:
            return ids, np.where(np.arange(len(ids)) > 0, ids, IGNORED_LABEL)
        return ids, self.table.labels(position)

    def mismatched_row(self, position: int) -> Row:
        """Return the row's prompt with its partner's completion, cut to the longest row of the table."""
        if self.partners is None:
            raise ValueError("only examples with partners have mismatched rows")
        partner = int(self.partners[position])
        prompt = self.table.input_ids(position)[: self._prompt_length(position)]
        ids = np.concatenate([prompt, self.table.input_ids(partner)[self._prompt_length(partner) :]])
        labels = np.where(np.arange(len(ids)) >= len(prompt), ids, IGNORED_LABEL)
        longest = int(self.table.lengths.max())
        return ids[:longest], labels[:longest]

    def collate(
        self, examples: Indices, device: torch.device, *, can_join: bool, reference: Reference | None = None
    ) -> list[MicroBatch]:
        """Return the examples as one micro-batch, or one each for a model whose rows cannot be joined."""
        groups = [examples] if can_join else [examples[place : place + 1] for place in range(len(examples))]
        return [self._micro_batch(group, device, can_join=can_join, reference=reference) for group in groups]

    def collate_mismatched(self, examples: Indices, device: torch.device, *, can_join: bool) -> MicroBatch:
        """Return the examples' mismatched rows."""
        return _parts([self.mismatched_row(int(row)) for row in self.rows[examples].ravel()], device, can_join=can_join)

    def _micro_batch(
        self, examples: Indices, device: torch.device, *, can_join: bool, reference: Reference | None
    ) -> MicroBatch:
        rows = self.rows[examples].ravel()
        batch = _parts([self.row(int(row)) for row in rows], device, can_join=can_join)
        positions = torch.from_numpy(rows)
        is_desirable = None if self.is_desirable is None else torch.from_numpy(self.is_desirable[rows]).to(device)
        known = None if reference is None else reference.rows[positions].to(device)
        return MicroBatch(parts=batch.parts, is_desirable=is_desirable, reference=known)

    def _prompt_length(self, position: int) -> int:
        return int(np.argmax(self.table.labels(position) != IGNORED_LABEL))


def _parts(rows: list[Row], device: torch.device, *, can_join: bool) -> MicroBatch:
    groups = [rows] if can_join else [[row] for row in rows]
    return MicroBatch(parts=tuple(join(group, device) for group in groups))


def draw_partners(rows: int, *, seed: int) -> Indices:
    """Return for each row another one, (rows,) int64: the one before it in a random circle, so each comes once.

    A circle over all rows in random order, because neighbours in a file often share a prompt. It does not depend on
    the epoch, so that what the reference says of mismatched completions is measured once.
    """
    circle = np.random.default_rng([seed, _PARTNERS_STREAM]).permutation(rows)
    partners = np.empty(rows, dtype=np.int64)
    partners[circle] = np.roll(circle, 1)
    return partners


def open_example_set(table: ExamplesTable, config: TrainingConfig, *, seed: int, what: str = "examples") -> ExampleSet:
    """Return the examples of ``table`` as the objective draws them.

    Raises: UserInputError: they are not what the objective learns from.
    """
    kind = KINDS[config.objective]
    if table.kind is not kind:
        fitting = ", ".join(name for name, taken in KINDS.items() if taken is table.kind)
        raise UserInputError(
            f"objective {config.objective} learns from {DESCRIPTIONS[kind]}, and the {what} are {DESCRIPTIONS[table.kind]}:"
            f" choose objective {fitting}, or prepare rows of the format {FORMATS[kind]}",
            code="wrong_examples_kind",
            field="objective",
            evidence={"kind": table.kind.value},
        )
    if kind is ExamplesKind.PREFERENCE:
        return ExampleSet(table=table, rows=table.pairs)
    rows = np.arange(len(table), dtype=np.int64)[:, None]
    if kind is ExamplesKind.SUPERVISED:
        return ExampleSet(table=table, rows=rows, trains_all=config.objective == "pretraining")
    if len(table) < 2:
        raise UserInputError(
            f"objective kto needs at least 2 {what}, to set prompts against completions of others, got {len(table)}",
            code="too_few_examples",
            field="objective",
        )
    partners = draw_partners(len(table), seed=seed)
    return ExampleSet(table=table, rows=rows, is_desirable=table.is_desirable, partners=partners)
