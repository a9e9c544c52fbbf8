"""Find the tokens of prompts in those of the whole text, so that most rows are tokenized once.

A tokenizer of the ``tokenizers`` library parts a text at its added tokens before anything else, and tokenizes what is
between them apart. So the tokens of a prompt are those of the whole text up to the last added token in the prompt, and then
those of the stretch from there to the prompt's end (``<|im_start|>assistant`` and a line end), which is mostly the same in
every row and tokenized once. Where the whole text reads the same there, the prompt is a prefix of it, token by token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

Aligned = tuple[list[int], dict[int, int]]
"""Token ids of a text, and the token position of each of its cuts."""

Stretch = tuple[str, list[int]]
"""A piece of a prompt as text, and its tokens in the whole text."""

_MAX_KEPT_CHARACTERS = 400
"""Longer stretches hold content, so would not come again."""

_MAX_KEPT = 8192


class WholeText:
    """Tokenize texts and say where their cuts are, for the rows where that is certain."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._added = frozenset(tokenizer.get_added_vocab().values())
        self._kept: dict[str, list[int]] = {}

    def align(self, texts: list[str], cuts: Sequence[Sequence[int]]) -> list[Aligned | None]:
        """Return ids and positions of the cuts (0 and the length of the text among them); None where it is uncertain."""
        encodings = self._encode(texts)
        found: list[Aligned | None] = []
        stretches: list[list[Stretch]] = []
        for text, cut, encoding in zip(texts, cuts, encodings, strict=True):
            needed: list[Stretch] = []
            found.append(self._align(text, cut, encoding, needed))
            stretches.append(needed)
        known = self._tokenize({piece for needed in stretches for piece, _ in needed})
        return [
            item if all(known[piece] == ids for piece, ids in needed) else None
            for item, needed in zip(found, stretches, strict=True)
        ]

    def _align(self, text: str, cuts: Sequence[int], encoding: Encoding, needed: list[Stretch]) -> Aligned | None:
        """Return where the cuts are if the stretches ``needed`` are tokenized alone as they are here."""
        ids: list[int] = encoding.ids
        positions = {0: 0, len(text): len(ids)}
        for cut in cuts:
            if cut not in positions:
                position = encoding.char_to_token(cut)
                if position is None:
                    return None
                start, marker = self._last_added(encoding, ids, position)
                if start > cut:
                    return None
                needed.append((text[start:cut], ids[marker:position]))
                positions[cut] = position
        return ids, positions

    def _last_added(self, encoding: Encoding, ids: Sequence[int], position: int) -> tuple[int, int]:
        """Return character and token position of the last added token before ``position``; of the beginning without one."""
        for marker in range(position - 1, -1, -1):
            if ids[marker] in self._added and (place := encoding.token_to_chars(marker)):
                return place[0], marker
        return 0, 0

    def _tokenize(self, pieces: set[str]) -> dict[str, list[int]]:
        if len(self._kept) > _MAX_KEPT:
            self._kept.clear()
        known = {piece: self._kept[piece] for piece in pieces if piece in self._kept}
        missing = [piece for piece in pieces if piece not in known]
        new = {piece: encoding.ids for piece, encoding in zip(missing, self._encode(missing), strict=True)}
        self._kept.update((piece, ids) for piece, ids in new.items() if len(piece) <= _MAX_KEPT_CHARACTERS)
        return known | new

    def _encode(self, texts: list[str]) -> list[Encoding]:
        self._backend.no_truncation()
        self._backend.no_padding()
        return self._backend.encode_batch(texts, add_special_tokens=False) if texts else []
