"""Repair text without changing what it says: encoding, Unicode form, control characters, outer white space.

Case, quotes, width, inner spaces and indentation stay: in code and tables they mean something.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable

from celery_workers.data.canonical import CanonicalRow, Message, Value
from celery_workers.data.checks import CONTROL_CHARACTERS
from celery_workers.data.mojibake import repair_mojibake

_LINE_ENDS = re.compile("\r\n?")
_LEADING_BLANK_LINES = re.compile(r"\A(?:[ \t]*\n)+")


def _compose(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _drop_control_characters(text: str) -> str:
    return CONTROL_CHARACTERS.sub("", text.replace("\0", ""))


def _trim(text: str) -> str:
    return _LEADING_BLANK_LINES.sub("", _LINE_ENDS.sub("\n", text)).rstrip()


# In this order: repair needs the control characters that it explains, and composition must not be parted by any.
STEPS: dict[str, Callable[[str], str]] = {
    "mojibake repaired": repair_mojibake,
    "control characters removed": _drop_control_characters,
    "Unicode composed (NFC)": _compose,
    "white space trimmed": _trim,
}


class Cleaner:
    """Clean rows, and count those that each step changed."""

    def __init__(self) -> None:
        self.rows_changed: Counter[str] = Counter()

    def clean(self, row: CanonicalRow) -> CanonicalRow:
        """Return ``row`` with every text cleaned."""
        changed: set[str] = set()
        values = {column: self._clean_value(value, changed) for column, value in row.values.items()}
        self.rows_changed.update(changed)
        if changed:
            self.rows_changed["any"] += 1
        return CanonicalRow(row.number, values, row.extras, row.problems)

    def _clean_value(self, value: Value, changed: set[str]) -> Value:
        if isinstance(value, str):
            return _clean_text(value, changed)
        if isinstance(value, list):
            return [_clean_message(message, changed) for message in value]
        return value


def _clean_message(message: Message, changed: set[str]) -> Message:
    content = message["content"]
    return message if content is None else {**message, "content": _clean_text(content, changed)}


def clean_text(text: str) -> str:
    """Return ``text`` after every step."""
    return _clean_text(text, set())


def _clean_text(text: str, changed: set[str]) -> str:
    for name, step in STEPS.items():
        cleaned = step(text)
        if cleaned != text:
            changed.add(name)
            text = cleaned
    return text
