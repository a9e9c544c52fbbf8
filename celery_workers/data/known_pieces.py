"""Tokenize the words of many texts once: most rows consist of words that rows before them had.

A byte-level tokenizer parts a text at its added tokens and then, by a regular expression, into words, and tokenizes each word
apart. ``KnownPieces`` cuts texts at places where such an expression surely parts them, whatever stands around, asks the
tokenizer for the pieces that it has not seen, and joins the tokens. That is exact for the expressions listed here, of which
the tests try every border; ``WholeText`` does the same work for all other tokenizers.

Why the cuts are certain. Each alternative of these expressions takes white space at its beginning or takes nothing else, except
that punctuation may take line ends behind it (``SPLITS``); none looks behind, and the one that looks ahead starts in white
space. So no word goes on from what is surely no white space to what surely is, and neither side changes when it stands alone.
What libraries may disagree about (U+0085, U+001C, ...) is never a place to cut.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.normalizers import Normalizer
    from tokenizers.pre_tokenizers import PreTokenizer
    from transformers import PreTrainedTokenizerBase

    from celery_workers.data.whole_text import Aligned

_SPACE = r" \t\r\n"
_PERHAPS_SPACE = r"\v\f\x1c-\x1f\x85\xa0\u1680\u180e\u2000-\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"

_AT_SPACE = f"[{_PERHAPS_SPACE}]"
"""What does not end a piece, for GPT-2's expression: pieces begin with white space."""

_KEEPING_LINE_ENDS = rf"(?:[{_PERHAPS_SPACE}]|(?<![0-9A-Za-z])[\r\n])"
"""The same for expressions by which a line end stays with what is before it, unless that is a letter or digit."""

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_PUNCTUATION_AND_SPACE = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {
    "llama3": rf"{_CONTRACTIONS}|\p{{N}}{{1,3}}|{_PUNCTUATION_AND_SPACE}",
    "qwen2": rf"{_CONTRACTIONS}|\p{{N}}|{_PUNCTUATION_AND_SPACE}",
}
"""Expressions by which Llama 3 and Qwen 2 to 3, and many models after them, part words."""

_MAX_KEPT = 100_000
_MAX_KEPT_CHARACTERS = 48
"""Longer pieces would hardly come again."""

_ASKED_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class _Parted:
    """The pieces of a text. ``borders`` are (cut, piece, part): a cut lies before the piece, or behind ``part`` of it."""

    pieces: list[str]
    borders: list[tuple[int, int, str]]


class KnownPieces:
    """Tokenize texts and say where their cuts are. Made by ``known_pieces``."""

    def __init__(self, backend: Tokenizer, added: dict[str, int], going_on: str) -> None:
        self._backend = backend
        self._piece = _piece(added, going_on)
        self._separator, self._separator_id = next(iter(added.items()))
        self._added = {token: (token_id,) for token, token_id in added.items()}
        self._known: dict[str, tuple[int, ...]] = dict(self._added)

    def align(self, texts: Sequence[str], cuts: Sequence[Sequence[int]]) -> list[Aligned | None]:
        """Return ids and positions of the cuts (0 and the length of the text among them); None where it is uncertain."""
        parted = [self._part(text, cut) for text, cut in zip(texts, cuts, strict=True)]
        self._learn([item for item in parted if item is not None])
        aligned = [self._join(item) if item is not None else None for item in parted]
        self._forget()
        return aligned

    def _part(self, text: str, cuts: Sequence[int]) -> _Parted | None:
        """Return the pieces of ``text`` and where its ascending ``cuts`` are; None where a cut is within an added token."""
        pieces: list[str] = self._piece.findall(text)
        pieces.pop()  # the end, where the expression finds nothing
        ends = list(accumulate(map(len, pieces)))
        borders: list[tuple[int, int, str]] = []
        for cut in cuts:
            index = bisect_right(ends, cut)
            begin = ends[index - 1] if index else 0
            part = pieces[index][: cut - begin] if cut > begin else ""
            if part and pieces[index] in self._added:
                return None
            borders.append((cut, index, part))
        return _Parted(pieces, borders)

    def _join(self, parted: _Parted) -> Aligned | None:
        known = self._known
        ids: list[int] = []
        positions: dict[int, int] = {}
        done = 0
        for cut, index, part in parted.borders:
            ids.extend(chain.from_iterable(map(known.__getitem__, parted.pieces[done:index])))
            done = index
            beginning = known[part] if part else ()
            if beginning and known[parted.pieces[index]][: len(beginning)] != beginning:
                return None
            positions[cut] = len(ids) + len(beginning)
        return ids, positions

    def _learn(self, parted: Iterable[_Parted]) -> None:
        """Ask the tokenizer for the pieces that are not known, many in one text: added tokens between them part it."""
        needed: set[str] = set()
        for item in parted:
            needed.update(item.pieces)
            needed.update(part for _, _, part in item.borders if part)
        missing = list(needed - self._known.keys())
        for start in range(0, len(missing), _ASKED_AT_ONCE):
            pieces = missing[start : start + _ASKED_AT_ONCE]
            (ids,) = self._encode([self._separator.join(pieces)])
            found = _parts(ids, self._separator_id)
            # An added token that overlaps the separator could join pieces.
            self._known.update(zip(pieces, found if len(found) == len(pieces) else self._encode(pieces), strict=True))

    def _forget(self) -> None:
        if len(self._known) > _MAX_KEPT:
            self._known = dict(self._added)

    def _encode(self, texts: list[str]) -> list[tuple[int, ...]]:
        self._backend.no_truncation()
        self._backend.no_padding()
        return [tuple(item.ids) for item in self._backend.encode_batch_fast(texts, add_special_tokens=False)]


def known_pieces(tokenizer: PreTrainedTokenizerBase) -> KnownPieces | None:
    """Return what tokenizes as ``tokenizer`` does; None unless it surely parts texts where pieces are cut."""
    if not tokenizer.is_fast:
        return None
    backend = tokenizer.backend_tokenizer
    going_on = _going_on(_state(backend.pre_tokenizer))
    added = {token.content: token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.content}
    if (
        going_on is None
        or not added
        or any(re.match(rf"[{_SPACE}{_PERHAPS_SPACE}]", token) for token in added)
        or _state(backend.normalizer) not in ({}, {"type": "NFC"})
        or getattr(backend.model, "dropout", None)
        or backend.encode_special_tokens
        or any(
            token.lstrip or token.rstrip or token.single_word or token.normalized
            for token in tokenizer.added_tokens_decoder.values()
        )
    ):
        return None
    return KnownPieces(backend, added, going_on)


def _piece(added: Iterable[str], going_on: str) -> re.Pattern[str]:
    """Return the expression of a piece: an added token, or white space and what follows up to where a cut is certain.

    The tokenizer takes the first place where there is an added token, and the longest one there.
    """
    longest_first = "|".join(re.escape(token) for token in sorted(added, key=len, reverse=True))
    first = "".join(re.escape(character) for character in sorted({token[0] for token in added}))
    # Hundreds of added tokens are tried only where one may begin.
    token, no_token = f"(?=[{first}])(?:{longest_first})", f"(?=[{first}])(?!{longest_first})[{first}]"
    between = f"[{_SPACE}{_PERHAPS_SPACE}]*"
    plain = f"[^{_SPACE}{_PERHAPS_SPACE}{first}]*"
    word = f"{plain}(?:{no_token}{plain})*"
    return re.compile(f"{token}|{between}{word}(?:{going_on}{between}{word})*")


def _going_on(pre_tokenizer: dict[str, object]) -> str | None:
    """Return what a piece goes on behind, for a pre-tokenizer; None where words might go on behind any white space."""
    steps = pre_tokenizer.get("pretokenizers") or [pre_tokenizer]
    *before, last = steps if isinstance(steps, list) else [{}]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        return None
    if last.get("use_regex"):
        return _AT_SPACE if all(step.get("type") == "Digits" for step in before) else None
    splits = [
        {"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": False} for words in SPLITS.values()
    ]
    return _KEEPING_LINE_ENDS if len(before) == 1 and before[0] in splits else None


def _state(component: Normalizer | PreTokenizer | None) -> dict[str, object]:
    """Return the settings of a part of a tokenizer, as its file has them; nothing where it has no such part."""
    return dict(json.loads(component.__getstate__())) if component is not None else {}


def _parts(ids: Sequence[int], separator_id: int) -> list[tuple[int, ...]]:
    """Return what stands between the separators."""
    parts: list[tuple[int, ...]] = []
    start = 0
    for position, token_id in enumerate(ids):
        if token_id == separator_id:
            parts.append(tuple(ids[start:position]))
            start = position + 1
    return [*parts, tuple(ids[start:])]
