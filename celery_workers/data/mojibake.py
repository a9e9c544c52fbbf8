"""Text that was decoded with the wrong encoding (``schÃ¶n``): tell it, and repair it.

ftfy knows how, but reads a few MB/s only, so a plain pattern first finds what could be UTF-8 read as a Latin, Windows or Mac
encoding.
"""

from __future__ import annotations

import re
from functools import cache


def looks_like_mojibake(text: str) -> bool:
    """Whether ``text`` was probably decoded with the wrong encoding."""
    if text.isascii() or not suspicious(is_lenient=False).search(text):
        return False
    from ftfy.badness import is_bad

    return bool(is_bad(text))


def repair_mojibake(text: str) -> str:
    """Return ``text`` as it was before it was decoded with the wrong encoding, where that is certain."""
    if text.isascii() or not suspicious(is_lenient=True).search(text):
        return text
    from ftfy import fix_encoding

    return fix_encoding(text)


@cache
def suspicious(*, is_lenient: bool) -> re.Pattern[str]:
    """Return a pattern for a UTF-8 lead byte and continuation byte, as single-byte encodings show them.

    A lenient one also takes a space for the continuation: a no-break space often became one.
    """
    from ftfy.chardata import UTF8_CLUES  # takes 30 ms to import

    first = "".join(UTF8_CLUES[f"utf8_first_of_{count}"] for count in (2, 3, 4))
    after = UTF8_CLUES["utf8_continuation" if is_lenient else "utf8_continuation_strict"]
    # Beside them: root, not sign and low quote, by which Mac Roman shows lead bytes, and C1 controls.
    return re.compile(f"[{first}][{after}]|[√¬‚][\x80-\uffff]|[\x80-\x9f]")
