"""The second pass of preprocessing: render, tokenize and mask rows; what is too long or refused is counted by reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from celery_workers.contract.errors import UserInputError
from celery_workers.data.canonical import CanonicalRow, Value, texts
from celery_workers.data.chunking import BorderFinder
from celery_workers.data.examples_file import IGNORED_LABEL, ExamplesWriter
from celery_workers.data.examples_schema import ExamplesKind
from celery_workers.data.preference_examples import (
    SIDES,
    as_rendered,
    check_sides,
    cut_prompt,
    kind_of_rows,
    rendered_format,
)
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.templates import Rendered, RowRefused, Template
from celery_workers.data.token_chunks import chunk
from celery_workers.data.tokenization import Encoder, TokenRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SAMPLE_ROWS = 20
_SAMPLED_EXAMPLES = 3
_SAMPLED_TOKENS = 400


class OverLong(StrEnum):
    """What happens to a row of more tokens than the limit."""

    ERROR = "error"
    DROP = "drop"
    TRUNCATE = "truncate"
    CHUNK = "chunk"


@dataclass(kw_only=True)
class MakingCounts:
    """What became of the rows; lists hold the first row numbers only."""

    too_long_rows: int = 0
    dropped_rows: int = 0
    truncated_rows: int = 0
    chunked_rows: int = 0
    chunks: int = 0
    cut_answer_rows: int = 0
    cut_prompt_rows: int = 0
    tokens_cut: int = 0
    longest_tokens: int = 0
    special_token_rows: int = 0
    refused_rows: Counter[str] = field(default_factory=Counter)
    refusals: list[dict[str, object]] = field(default_factory=list)
    too_long: list[int] = field(default_factory=list)
    with_special_tokens: list[int] = field(default_factory=list)

    def note_special_token(self, row_number: int) -> None:
        """Count a row whose content spells out a special token."""
        self.special_token_rows += 1
        if len(self.with_special_tokens) < _SAMPLE_ROWS:
            self.with_special_tokens.append(row_number)


class ExampleMaker:
    """Write rows as examples, each to the train or the held-out side."""

    def __init__(
        self,
        *,
        tokenizer: PreTrainedTokenizerBase,
        template: Template,
        encoder: Encoder,
        row_format: RowFormat,
        max_length_tokens: int,
        over_long: OverLong,
        chunk_overlap_tokens: int = 0,
    ) -> None:
        if over_long is OverLong.CHUNK and row_format is not RowFormat.TEXT:
            message = (
                f"over_long chunk is for rows of the format text, got {row_format.value}: a piece of a conversation would "
                "train answers without their questions; choose error, drop or truncate"
            )
            raise UserInputError(message, code="chunk_needs_text", field="over_long")
        self._tokenizer = tokenizer
        self.template = template
        self._encoder = encoder
        self.row_format = row_format
        self.kind = kind_of_rows(row_format)
        self.max_length_tokens = max_length_tokens
        self._over_long = over_long
        self._borders = BorderFinder(tokenizer)
        self._chunk_overlap_tokens = chunk_overlap_tokens
        special_tokens = [re.escape(token) for token in tokenizer.all_special_tokens if len(token) > 1]
        self._special_token = re.compile("|".join(special_tokens)) if special_tokens else None
        self.counts = MakingCounts()
        self.samples: list[dict[str, object]] = []
        self.lengths: dict[bool, list[int]] = {False: [], True: []}
        """Tokens of each row, in order of writing; the key says whether the row is held out."""

    def make(
        self, rows: Sequence[CanonicalRow], is_held_out: Sequence[bool], *, train: ExamplesWriter, held_out: ExamplesWriter
    ) -> None:
        """Turn ``rows`` into examples.

        Raises: UserInputError: some rows would teach something else than they say; the message names the first.
        """
        values = [as_rendered(row.values, self.row_format) for row in rows]
        rendered = self._render(rows, [side for sides in values for side in sides])
        encoded = iter(self._encoder.encode([item for item in rendered if isinstance(item, Rendered)]))
        results = iter([next(encoded) if isinstance(item, Rendered) else item for item in rendered])
        for row, sides, side in zip(rows, values, is_held_out, strict=True):
            result = check_sides([next(results) for _ in sides], self.row_format)
            if isinstance(result, RowRefused):
                self._refuse(row, result)
                continue
            for fitting in self._fit(row, result):
                self._write(row, fitting, held_out if side else train)
                self.lengths[side] += [len(example.input_ids) for example in fitting]
                if not side and len(self.samples) < _SAMPLED_EXAMPLES:
                    self.samples += self._samples(row, fitting)
        if self.counts.refusals:
            raise self._refusal()

    def check_lengths(self) -> None:
        """Refuse the rows that were too long, if that is the policy. Call after the last row.

        Raises: UserInputError: naming the first rows, how many there are, and the longest.
        """
        counts = self.counts
        if self._over_long is not OverLong.ERROR or not counts.too_long_rows:
            return
        rows = ", ".join(map(str, counts.too_long[:5]))
        raise UserInputError(
            f"{counts.too_long_rows} rows have more than {self.max_length_tokens} tokens (rows {rows}; the longest has "
            f"{counts.longest_tokens}). Raise max_length_tokens, or set over_long to drop or truncate.",
            code="rows_too_long",
            field="max_length_tokens",
            evidence={"rows": counts.too_long, "longest_tokens": counts.longest_tokens},
        )

    def _write(self, row: CanonicalRow, sides: Sequence[TokenRow], writer: ExamplesWriter) -> None:
        pairs = [(side.input_ids, side.labels) for side in sides]
        if self.kind is ExamplesKind.PREFERENCE:
            writer.append_pair(*pairs, row_number=row.number)
            return
        is_desirable = bool(row.values["label"]) if self.kind is ExamplesKind.KTO else None
        writer.append(*pairs[0], row_number=row.number, is_desirable=is_desirable)

    def _render(self, rows: Sequence[CanonicalRow], values: Sequence[Mapping[str, Value]]) -> list[Rendered | RowRefused]:
        if self.row_format is not RowFormat.TEXT and self._special_token:
            for row in rows:
                if any(self._special_token.search(text) for _, text in texts(row.values, self.row_format)):
                    self.counts.note_special_token(row.number)
        return self.template.render_all(values, rendered_format(self.row_format))

    def _fit(self, row: CanonicalRow, sides: list[TokenRow]) -> list[list[TokenRow]]:
        """Return what is written of an example: itself, what is left of it, its chunks, or nothing."""
        counts, length = self.counts, max(len(side.input_ids) for side in sides)
        counts.longest_tokens = max(counts.longest_tokens, length)
        if length <= self.max_length_tokens:
            return [sides]
        counts.too_long_rows += 1
        if len(counts.too_long) < _SAMPLE_ROWS:
            counts.too_long.append(row.number)
        if self._over_long is OverLong.CHUNK:
            return [[piece] for piece in self._chunks(sides[0])]
        cut = self._cut(sides) if self._over_long is OverLong.TRUNCATE else None
        if cut is None:
            counts.dropped_rows += 1
            return []
        counts.truncated_rows += 1
        counts.tokens_cut += sum(len(side.input_ids) for side in sides) - sum(len(side.input_ids) for side in cut)
        return [cut]

    def kept_beginning(self, example: TokenRow) -> int:
        """Return how many tokens stay before a prompt that is cut: those that begin every text."""
        return len(self._encoder.prefix_ids) or int(example.input_ids[0] == self._tokenizer.bos_token_id)

    def _chunks(self, example: TokenRow) -> list[TokenRow]:
        chunks = chunk(
            example, self.max_length_tokens, prefix_ids=self._encoder.prefix_ids,
            strengths=self._borders.strengths(example.input_ids), overlap_tokens=self._chunk_overlap_tokens,
        )  # fmt: skip
        self.counts.chunked_rows += 1
        self.counts.chunks += len(chunks)
        return chunks

    def _cut(self, sides: list[TokenRow]) -> list[TokenRow] | None:
        """Return the beginning of a supervised example, or the end of those that compare or judge; None: nothing is left."""
        limit = self.max_length_tokens
        if self.kind is not ExamplesKind.SUPERVISED:
            kept = cut_prompt(sides, limit, kept_beginning=self.kept_beginning(sides[0]))
            self.counts.cut_prompt_rows += kept is not None
            return kept
        (example,) = sides
        cut = TokenRow(example.input_ids[:limit], example.labels[:limit])
        if all(label == IGNORED_LABEL for label in cut.labels):
            return None
        self.counts.cut_answer_rows += any(label != IGNORED_LABEL for label in example.labels[limit:])
        return [cut]

    def _refuse(self, row: CanonicalRow, refusal: RowRefused) -> None:
        self.counts.refused_rows[refusal.code] += 1
        if len(self.counts.refusals) < _SAMPLE_ROWS:
            self.counts.refusals.append({"row": row.number, "code": refusal.code, "message": str(refusal)})

    def _refusal(self) -> UserInputError:
        first = self.counts.refusals[0]
        total = self.counts.refused_rows.total()
        more = f" ({total} rows of this block)" if total > 1 else ""
        field_at_fault = "template" if "template" in str(first["code"]) else None
        return UserInputError(
            f"row {first['row']}: {first['message']}{more}",
            code=str(first["code"]),
            field=field_at_fault,
            evidence={"rows": [item["row"] for item in self.counts.refusals], "refusals": self.counts.refusals},
        )

    def _samples(self, row: CanonicalRow, sides: Sequence[TokenRow]) -> list[dict[str, object]]:
        """Return the first tokens of each side with the trained ones marked, as the trainer will see them."""
        samples: list[dict[str, object]] = []
        for name, example in zip(SIDES[self.kind], sides, strict=True):
            pairs = list(zip(example.input_ids, example.labels, strict=True))[:_SAMPLED_TOKENS]
            tokens = [[self._tokenizer.decode([token]), label != IGNORED_LABEL] for token, label in pairs]
            sample = {"row_number": row.number, "length_tokens": len(example.input_ids), "tokens": tokens}
            said = {"side": name} if name else {"label": row.values["label"]} if self.kind is ExamplesKind.KTO else {}
            samples.append({**sample, **said})
        return samples
