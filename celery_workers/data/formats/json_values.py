"""Decode JSON as rows need it: objects only, bounded depth, no half characters."""

from __future__ import annotations

import json

_decoder = json.JSONDecoder()
raw_decode = _decoder.raw_decode

MAX_DEPTH = 100
"""Levels of arrays and objects in a row. Python's own limit depends on who calls, and later steps would meet it."""


class BrokenValueError(ValueError):
    """A piece of JSON that is no row; the text says why."""


def decode_row(text: str) -> dict[str, object]:
    """Return the object that ``text`` holds.

    Raises: BrokenValueError: it is not JSON, not an object, or nested too deeply.
    """
    try:
        value = json.loads(text)
        return as_row(value, text)
    except json.JSONDecodeError as error:
        raise BrokenValueError(explain(error)) from error
    except RecursionError as error:
        raise BrokenValueError("is nested too deeply") from error
    except ValueError as error:  # a number of more than 4,300 digits
        raise BrokenValueError(str(error)) from error


def as_row(value: object, text: str) -> dict[str, object]:
    """Return ``value``, decoded from ``text``, if it is an object, with unpaired surrogates replaced by U+FFFD.

    Raises: BrokenValueError: it is something else, or nested too deeply.
    """
    if not isinstance(value, dict):
        raise BrokenValueError(f"a row must be an object, got {type_name(value)}")
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise BrokenValueError(f"is nested too deeply: at most {MAX_DEPTH} levels are read")
    if "\\u" in text:
        return _whole_characters(value)
    return value


def type_name(value: object) -> str:
    """Return the JSON name of the type of ``value``."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "an array", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def _depth(value: object) -> int:
    """Return the levels of arrays and objects, without recursion."""
    depth, containers = 0, [value]
    while containers:
        depth += 1
        children = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
        containers = [child for child in children if isinstance(child, dict | list)]
    return depth


def _whole_characters(value: object) -> object:
    if isinstance(value, str):
        if value.isascii():
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {_whole_characters(key): _whole_characters(item) for key, item in value.items()}
    return value


def explain(error: json.JSONDecodeError, *, start: int = 0) -> str:
    """Return what is wrong and where, counting characters from 1 at ``start``."""
    message = error.msg.removesuffix(" at")
    return f"{message[:1].lower()}{message[1:]} at character {error.pos - start + 1}"
