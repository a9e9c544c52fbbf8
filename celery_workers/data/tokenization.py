"""From rendered text to token ids and labels, in batches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from celery_workers.contract.errors import UserInputError
from celery_workers.data.chat_rendering import Rendered, RowRefused
from celery_workers.data.known_pieces import known_pieces
from celery_workers.data.masking import check_beginning, make_labels
from celery_workers.data.whole_text import Aligned, WholeText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_END_OF_TURN_NAMES = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|eot|>", "<end_of_turn>", "<turn|>", "<|end|>", "<|END_OF_TURN_TOKEN|>",
    "<|return|>", "<|user_end|>", "<|endofturn|>",
)  # fmt: skip
"""Tokens by which known chat templates end a turn, beside the end-of-text tokens that the model itself names."""

_NO_LIMIT = 10**9
"""Tokenizers without a limit of their own say a huge number."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """``input_ids`` (L,) and ``labels`` (L,), ``IGNORED_LABEL`` where not trained on."""

    input_ids: list[int]
    labels: list[int]


class Encoder:
    """Tokenize rendered rows as the model will see them when it answers.

    An answer starts where the prompt ends, so prompt and answer are tokenized apart, as they are at inference; this is
    compared with the tokens of the whole text, and a row for which neither is certain is refused. Most rows need one pass:
    see ``KnownPieces`` and ``WholeText``.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, folder: Path, *, adds_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._bos_id = tokenizer.bos_token_id
        self.prefix_ids = _prefix_ids(tokenizer) if adds_special_tokens else []
        self.end_of_turn_ids = end_of_turn_ids(tokenizer, folder)
        self.split_at_answer = 0
        """Rows in which the whole text would have joined prompt and answer in one token."""
        self._one_pass = known_pieces(tokenizer) or (WholeText(tokenizer) if tokenizer.is_fast else None)
        self._is_blank = lru_cache(maxsize=4096)(lambda ids: not str(tokenizer.decode(ids)).strip())

    def encode(self, rows: Sequence[Rendered]) -> list[TokenRow | RowRefused]:
        """Return the tokens of each row, or why it is refused."""
        aligned = self._align_all(rows)
        results: list[TokenRow | RowRefused] = []
        for row, item in zip(rows, aligned, strict=True):
            try:
                if isinstance(item, RowRefused):
                    raise item
                results.append(self._row(row, *item))
            except RowRefused as refusal:
                results.append(refusal)
        return results

    def _row(self, row: Rendered, ids: list[int], position_of: Mapping[int, int]) -> TokenRow:
        """Return ids and labels; ``position_of`` has the token position of each cut of the text."""
        shift = len(self.prefix_ids)
        answers, others = (
            [(position_of[start] + shift, position_of[end] + shift) for start, end in spans]
            for spans in (row.answers, row.others)
        )
        input_ids = [*self.prefix_ids, *ids] if shift else ids
        check_beginning(input_ids, self._bos_id)
        labels = make_labels(
            input_ids, answers, end_of_turn_ids=self.end_of_turn_ids, is_blank=self._is_blank, others=others
        )  # fmt: skip
        return TokenRow(input_ids, labels)

    def _align_all(self, rows: Sequence[Rendered]) -> list[Aligned | RowRefused]:
        if self._one_pass is None:
            return self._align_apart(rows)
        first = self._one_pass.align([row.text for row in rows], [_cuts(row) for row in rows])
        unclear = [row for row, item in zip(rows, first, strict=True) if item is None]
        second = iter(self._align_apart(unclear))
        return [next(second) if item is None else item for item in first]

    def _align_apart(self, rows: Sequence[Rendered]) -> list[Aligned | RowRefused]:
        """Tokenize each row whole and in pieces, and return the ids with the token position of each cut."""
        cuts = [_cuts(row) for row in rows]
        pieces = [[row.text[start:end] for start, end in pairwise(cut)] for row, cut in zip(rows, cuts, strict=True)]
        whole = self._ids([row.text for row in rows])
        parts = iter(self._ids(list(chain.from_iterable(piece for piece in pieces if len(piece) > 1))))
        results: list[Aligned | RowRefused] = []
        for row, cut, ids in zip(rows, cuts, whole, strict=True):
            segments = [next(parts) for _ in range(len(cut) - 1)] if len(cut) > 2 else [ids]
            try:
                used, ends = self._align(row.text, cut, ids, segments)
                results.append((used, dict(zip(cut, [0, *ends], strict=True))))
            except RowRefused as refusal:
                results.append(refusal)
        return results

    def _align(self, text: str, cuts: list[int], whole: list[int], segments: list[list[int]]) -> tuple[list[int], list[int]]:
        """Return the ids and the token position of each cut but the first."""
        joined = list(chain.from_iterable(segments))
        ends = _running_lengths(segments)
        if joined == whole:
            return whole, ends
        prefixes = self._ids([text[:cut] for cut in cuts[1:]])
        if all(whole[: len(prefix)] == prefix for prefix in prefixes):
            return whole, [len(prefix) for prefix in prefixes]
        if self._tokenizer.decode(joined) == self._tokenizer.decode(whole):
            self.split_at_answer += 1
            return joined, ends
        raise RowRefused("unclear_boundary", "the tokenizer joins prompt and answer so that they cannot be told apart")

    def _ids(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return self._tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]


def end_of_turn_ids(tokenizer: PreTrainedTokenizerBase, folder: Path) -> frozenset[int]:
    """Return the ids that end a turn: the model's end-of-text ids and the known end-of-turn tokens in its vocabulary."""
    added = tokenizer.get_added_vocab()
    found = {added[name] for name in _END_OF_TURN_NAMES if name in added}
    if tokenizer.eos_token_id is not None:
        found.add(tokenizer.eos_token_id)
    configured = _read_json(folder / "generation_config.json").get("eos_token_id")
    found.update(configured if isinstance(configured, list) else [configured] if isinstance(configured, int) else [])
    return frozenset(found)


def context_tokens(tokenizer: PreTrainedTokenizerBase, folder: Path) -> int | None:
    """Return the most tokens that the model can attend to; None where it does not say."""
    config = _read_json(folder / "config.json")
    text_config = config.get("text_config")
    nested = text_config.get("max_position_embeddings") if isinstance(text_config, dict) else None
    limits = [config.get("max_position_embeddings"), nested, tokenizer.model_max_length]
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT]
    return min(known, default=None)


def _prefix_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids that the tokenizer puts before every text, such as beginning-of-text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a", add_special_tokens=True)["input_ids"]
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return full[:start]
    message = "the tokenizer changes a text when it adds its special tokens, which is not supported"
    raise UserInputError(message, code="unusable_tokenizer", field="base_model")


def _cuts(row: Rendered) -> list[int]:
    """Return the places where the text is cut: its ends and those of its trained parts, without repetition."""
    return sorted({0, len(row.text), *chain.from_iterable(row.answers), *chain.from_iterable(row.others)})


def _running_lengths(segments: Sequence[Sequence[int]]) -> list[int]:
    lengths, total = [], 0
    for segment in segments:
        total += len(segment)
        lengths.append(total)
    return lengths


def _read_json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserInputError(f"the base model has a broken {path.name}: {error}", code="unusable_model") from error
    return content if isinstance(content, dict) else {}
