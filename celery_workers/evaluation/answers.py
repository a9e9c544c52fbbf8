"""Whether a generated answer is the reference answer."""

from __future__ import annotations

import json
from enum import StrEnum


class MatchMode(StrEnum):
    """How two answers are made comparable.

    ``none`` compares the stripped texts, ``whitespace`` also counts any run of white space as one space, ``json`` parses
    both and compares the values: key order and layout do not matter, types do (1 is not true, but 1 is 1.0).
    """

    NONE = "none"
    WHITESPACE = "whitespace"
    JSON = "json"


def is_match(generated: str, reference: str, mode: MatchMode) -> bool:
    """Say whether ``generated`` equals ``reference``. Under ``json``, a text that does not parse equals nothing."""
    if mode is MatchMode.NONE:
        return generated.strip() == reference.strip()
    if mode is MatchMode.WHITESPACE:
        return generated.split() == reference.split()
    return is_json(generated) and is_json(reference) and _same_value(json.loads(generated), json.loads(reference))


def is_json(text: str) -> bool:
    """Say whether ``text`` is one JSON value."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _same_value(left: object, right: object) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same_value(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same_value, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return left == right
