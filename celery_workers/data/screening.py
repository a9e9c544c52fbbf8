"""Tell quickly which texts need a closer look: one combined pattern over a whole batch, in C++.

A text that passes has no problem that ``checks.text_problems`` or ``personal_data`` could find; one that does not may have.
Arrow's RE2 reads several hundred MB/s, where Python's patterns, one after the other, read a tenth of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from celery_workers.data.text_stream import REPLACEMENT

_PERSONAL_DATA = (
    r"@",
    r"[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4}",  # an IBAN's beginning
    r"[2-6][0-9]{3}(?: ?-?[0-9]){9}",  # a card's
    r"\+[0-9][^A-Za-z\n=<>+*,;:]{5}|\([0-9]{3}\)[ .-]?[0-9]{3}|[0-9]{3}[ .-][0-9]{3}[ .-][0-9]{4}",  # a phone number's
    r"AKIA|ASIA|AIza|gh[pousr]_|github_pat_|glpat-|hf_|npm_|pypi-|sk-|xox[abeoprs]-|k_live_|eyJ|PRIVATE KEY-----",
)
_CHARACTERS = rf"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|[\x{{80}}-\x{{9f}}\x{{feff}}\x{{{ord(REPLACEMENT):x}}}]"
SCREENED_TEXTS = 16
"""Fewer texts than this are quicker looked at one by one."""


def needs_a_look(texts: Sequence[str], *, with_personal_data: bool) -> Sequence[bool]:
    """Return for each text whether a check of its characters, or a search for personal data, could find something."""
    if len(texts) < SCREENED_TEXTS:
        return [True] * len(texts)
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        array = pa.array(texts, pa.large_string())
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell and UTF-8 cannot
        return [True] * len(texts)
    found: list[bool] = pc.match_substring_regex(array, _pattern(with_personal_data)).to_pylist()
    return found


@cache
def _pattern(with_personal_data: bool) -> str:
    from celery_workers.data.mojibake import suspicious

    parts = [_CHARACTERS, suspicious(is_lenient=False).pattern]
    return "|".join([*parts, *_PERSONAL_DATA] if with_personal_data else parts)
