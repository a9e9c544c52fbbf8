"""Where a long text may be cut: between paragraphs, else between sentences or lines, else between words.

Cuts lie between tokens of the whole text, so that the pieces' tokens join to those of the text and its end is marked once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WORD, SENTENCE, PARAGRAPH = 1, 2, 3

_TAIL_CHARACTERS = 16
_PARAGRAPH_END = re.compile(r"\n[ \t]*\n\s*\Z")
_SENTENCE_END = re.compile(r"""(?:[.!?…]["'”’)\]]*(?P<needs_space>)|[。！？]["'”’）」]*)\s*\Z""")


class BorderFinder:
    """Tell how good a place each token's end is for a cut."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        def piece(token_id: int) -> str:
            token = str(tokenizer.convert_ids_to_tokens(token_id))
            # SentencePiece marks spaces so, and would decode a single token without its space.
            return token.replace("▁", " ") if "▁" in token else str(tokenizer.decode([token_id]))

        self._piece = lru_cache(maxsize=65_536)(piece)

    def strengths(self, ids: Sequence[int]) -> list[int]:
        """Return the strength of the border behind each token: 0 (none), ``WORD``, ``SENTENCE`` or ``PARAGRAPH``."""
        pieces = [self._piece(token_id) for token_id in ids]
        found, tail = [], ""
        for piece, following in zip(pieces, [*pieces[1:], ""], strict=True):
            tail = (tail + piece)[-_TAIL_CHARACTERS:]
            found.append(_strength(tail, following))
        return found


def find_cut(strengths: Sequence[int], start: int, end: int) -> int:
    """Return where the piece from ``start`` ends, at most at ``end``: the strongest border in its second half, else ``end``."""
    if end >= len(strengths):
        return len(strengths)
    places = range(end, start + (end - start) // 2, -1)
    best = max(places, key=lambda place: (strengths[place - 1], place), default=end)
    return best if strengths[best - 1] else end


def find_overlap(strengths: Sequence[int], cut: int, overlap_tokens: int) -> int:
    """Return where the piece after ``cut`` begins: at the earliest strong border that repeats at most ``overlap_tokens``."""
    first = max(0, cut - overlap_tokens)
    for strength in (SENTENCE, WORD):
        for place in range(first, cut):
            if place == 0 or strengths[place - 1] >= strength:
                return place
    return cut


def _strength(tail: str, following: str) -> int:
    is_space_next = following[:1].isspace()
    if _PARAGRAPH_END.search(tail) and not is_space_next:
        return PARAGRAPH
    if tail.endswith("\n"):
        return SENTENCE
    is_parted = is_space_next or tail[-1:].isspace()
    ending = _SENTENCE_END.search(tail)
    if ending and (is_parted or ending["needs_space"] is None):
        return SENTENCE
    return WORD if is_parted else 0
