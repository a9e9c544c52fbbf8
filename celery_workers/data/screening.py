"""Tell quickly which texts need a closer look: one combined pattern over a whole batch, in C++.

A text that passes has no problem that ``checks.text_problems`` or ``personal_data`` could find; one that does not may have.
Arrow's RE2 reads several hundred MB/s, where Python's patterns, one after the other, read a tenth of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from celery_workers.data.text_stream import REPLACEMENT

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

_PERSONAL_DATA = (
    r"@",
    r"[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4}",  # an IBAN's beginning
    r"[2-6][0-9]{3}(?: ?-?[0-9]){9}",  # a card's
    r"\+[0-9][^A-Za-z\n=<>+*,;:]{5}|\([0-9]{3}\)[ .-]?[0-9]{3}|[0-9]{3}[ .-][0-9]{3}[ .-][0-9]{4}",  # a phone number's
    r"AKIA|ASIA|AIza|gh[pousr]_|github_pat_|glpat-|hf_|npm_|pypi-|sk-|xox[abeoprs]-|k_live_|eyJ|PRIVATE KEY-----",
)
_CHARACTERS = rf"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|[\x{{80}}-\x{{9f}}\x{{feff}}\x{{{ord(REPLACEMENT):x}}}]"

_WORTH_ANOTHER_LOOK = 20
"""Suspicious texts of a batch, fewer of which are sooner looked at one by one."""


def screen(texts: Sequence[str | None], *, with_personal_data: bool) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return for each text whether a check of its characters, or a search for personal data, could find something; and its
    length in characters. Nulls have neither."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        array = pa.array(texts, pa.large_string())
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell and UTF-8 cannot
        lengths = [len(text) if text else 0 for text in texts]
        return np.array([text is not None for text in texts], np.bool_), np.array(lengths, np.int64)
    found = _look_again(array, pc.match_substring_regex(array, _pattern(with_personal_data)), with_personal_data)
    lengths = pc.utf8_length(array)
    if array.null_count:
        found, lengths = found.fill_null(False), lengths.fill_null(0)
    return found.to_numpy(zero_copy_only=False), lengths.to_numpy(zero_copy_only=False)


def _look_again(array: pa.LargeStringArray, found: pa.BooleanArray, with_personal_data: bool) -> pa.BooleanArray:
    """Let texts pass of which it was only suspicious that UTF-8 is spelled like some of their letters: nearly all text in
    Polish or Russian is."""
    import pyarrow.compute as pc

    places = pc.indices_nonzero(found)
    if len(places) < _WORTH_ANOTHER_LOOK:
        return found
    texts = array.take(places)
    others = _PERSONAL_DATA if with_personal_data else ()
    stays = pc.match_substring_regex(texts, "|".join([_CHARACTERS, _badness(), *others]))
    return pc.replace_with_mask(found, pc.fill_null(found, False), stays)


@cache
def _pattern(with_personal_data: bool) -> str:
    from celery_workers.data.mojibake import suspicious

    parts = [_CHARACTERS, suspicious(is_lenient=False).pattern]
    return "|".join([*parts, *_PERSONAL_DATA] if with_personal_data else parts)


@cache
def _badness() -> str:
    """Return the pattern by which ftfy tells mojibake, for RE2; it finds no less."""
    from ftfy.badness import BADNESS_RE

    # Python's verbose mode passes over white space and comments outside character classes. RE2 has no such mode, and its
    # classes for words and white space are those of ASCII.
    pieces = re.findall(r"\[(?:\\.|[^\]\\])*\]|\\.|#[^\n]*|\s+|[^\s\[\\#]+", BADNESS_RE.pattern)
    wider = {r"\s": r"[\s\x{b}\x{1c}-\x{1f}\x{80}-\x{10ffff}]", r"\w": r"[\w\x{80}-\x{10ffff}]"}
    return "".join(wider.get(piece, piece) for piece in pieces if not piece.isspace() and not piece.startswith("#"))
