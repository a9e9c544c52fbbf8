"""Mark what differs between two texts, word by word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import takewhile

Segment = tuple[str, bool]
"""A piece of a text, and whether it differs from the other one."""

MAX_WORDS = 600
"""Words between what both texts begin and end with; beyond, the whole middle counts as different."""

_WORDS = re.compile(r"\w+|\s+|[^\w\s]")


def mark(before: str, after: str) -> tuple[list[Segment], list[Segment]]:
    """Return both texts in pieces that are the same in both or are not; the pieces join to the texts."""
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    head = _shared(old, new)
    tail = _shared(old[head:][::-1], new[head:][::-1])
    middle_old, middle_new = old[head : len(old) - tail], new[head : len(new) - tail]
    left, right = [("".join(old[:head]), False)], [("".join(new[:head]), False)]
    if max(len(middle_old), len(middle_new)) > MAX_WORDS:
        left.append(("".join(middle_old), True))
        right.append(("".join(middle_new), True))
    else:
        for kind, start, end, other_start, other_end in SequenceMatcher(None, middle_old, middle_new, False).get_opcodes():
            left.append(("".join(middle_old[start:end]), kind != "equal"))
            right.append(("".join(middle_new[other_start:other_end]), kind != "equal"))
    left.append(("".join(old[len(old) - tail :]), False))
    right.append(("".join(new[len(new) - tail :]), False))
    return _joined(left), _joined(right)


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many words two lists begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _joined(segments: Sequence[Segment]) -> list[Segment]:
    """Return the pieces without empty ones, neighbours of one kind as one."""
    joined: list[Segment] = []
    for text, is_different in segments:
        if joined and text and joined[-1][1] == is_different:
            joined[-1] = (joined[-1][0] + text, is_different)
        elif text:
            joined.append((text, is_different))
    return joined
