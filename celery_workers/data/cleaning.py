"""Repair text without changing what it says: encoding, Unicode form, control characters, outer white space.

Case, quotes, width, inner spaces and indentation stay: in code and tables they mean something. Steps that do change what a
text says (tags, inner white space, personal data) are taken only where they are asked for.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping

from celery_workers.data.canonical import CanonicalRow, Message, Value
from celery_workers.data.checks import CONTROL_CHARACTERS
from celery_workers.data.mojibake import repair_mojibake
from celery_workers.data.personal_data import PersonalData, mask_personal_data

Step = Callable[[str], str]

MASKING = "personal data masked"
_SAMPLES = 3
_SAMPLE_CHARACTERS = 80

_LINE_ENDS = re.compile("\r\n?")
_LEADING_BLANK_LINES = re.compile(r"\A(?:[ \t]*\n)+")
_SPACES = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")
_HTML = re.compile(
    r"</(?:a|b|i|u|p|h[1-6]|em|li|ol|ul|td|th|tr|div|pre|span|code|body|html|font|table|strong|script|style|blockquote)\s*>"
    r"|<(?:br|hr|p|div|img|li)\b[^<>]{0,500}>",
    re.IGNORECASE,
)
_BLOCKS = "p,br,hr,li,ol,ul,tr,div,pre,table,blockquote,h1,h2,h3,h4,h5,h6,article,section,header,footer,title"


def _compose(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _drop_control_characters(text: str) -> str:
    return CONTROL_CHARACTERS.sub("", text.replace("\0", ""))


def _trim(text: str) -> str:
    return _LEADING_BLANK_LINES.sub("", _LINE_ENDS.sub("\n", text)).rstrip()


def strip_html(text: str) -> str:
    """Return what a browser would show of ``text``, a block on a line; a text without tags stays as it is."""
    if not _HTML.search(text):
        return text
    from selectolax.lexbor import LexborHTMLParser

    page = LexborHTMLParser(text)
    page.strip_tags(["script", "style", "template", "noscript"])
    for node in page.css(_BLOCKS):
        node.insert_after("\n")
    return page.body.text() if page.body else ""


def collapse_white_space(text: str) -> str:
    """Return ``text`` with single spaces, no spaces at line ends, and at most one blank line together."""
    lines = _SPACES.sub(" ", text).split("\n")
    return _BLANK_LINES.sub("\n\n", "\n".join(line.strip(" ") for line in lines))


# In this order: repair needs the control characters that it explains, and composition must not be parted by any.
STEPS: dict[str, Step] = {
    "mojibake repaired": repair_mojibake,
    "control characters removed": _drop_control_characters,
    "Unicode composed (NFC)": _compose,
    "white space trimmed": _trim,
}


def choose_steps(*, repair: bool, html: bool, white_space: bool) -> dict[str, Step]:
    """Return the steps that are asked for, in their order."""
    steps = {name: step for name, step in STEPS.items() if repair and step is not _trim}
    if html:
        steps["HTML removed"] = strip_html
    if white_space:
        steps["white space collapsed"] = collapse_white_space
    return steps | ({"white space trimmed": _trim} if repair else {})


class Cleaner:
    """Clean rows; count those that each step changed, and keep the first changes of each as samples."""

    def __init__(self, steps: Mapping[str, Step] = STEPS, *, masked: Collection[PersonalData] = ()) -> None:
        """Take ``steps``, then mask the kinds of personal data in ``masked``."""
        self._steps = dict(steps)
        self._kinds = tuple(masked)
        self._masking: dict[str, Step] = {MASKING: self._mask} if masked else {}
        self._steps |= self._masking
        self.rows_changed: Counter[str] = Counter()
        self.masked: Counter[str] = Counter()
        """Findings masked, by their kind."""
        self.samples: dict[str, list[dict[str, object]]] = {}

    @property
    def is_idle(self) -> bool:
        """Whether it would change nothing."""
        return not self._steps

    def clean(self, row: CanonicalRow) -> CanonicalRow:
        """Return ``row`` with every text cleaned."""
        changed: dict[str, tuple[str, str]] = {}
        values = {column: self._clean_value(value, changed) for column, value in row.values.items()}
        self.rows_changed.update(changed.keys())
        if changed:
            self.rows_changed["any"] += 1
            self._sample(row.number, changed)
        return CanonicalRow(row.number, values, row.extras, row.problems)

    def _clean_value(self, value: Value, changed: dict[str, tuple[str, str]]) -> Value:
        if isinstance(value, str):
            return _apply(self._steps, value, changed)
        if isinstance(value, list):
            return [self._clean_message(message, changed) for message in value]
        return value

    def _clean_message(self, message: Message, changed: dict[str, tuple[str, str]]) -> Message:
        cleaned = dict(message)
        # Calls are JSON: masked inside their texts they stay so, which other steps don't promise.
        for key, steps in (("content", self._steps), ("reasoning_content", self._steps), ("tool_calls", self._masking)):
            text = message.get(key)
            if isinstance(text, str):
                cleaned[key] = _apply(steps, text, changed)
        return cleaned

    def _mask(self, text: str) -> str:
        masked, kinds = mask_personal_data(text, self._kinds)
        self.masked.update(kind.value for kind in kinds)
        return masked

    def _sample(self, row_number: int, changed: Mapping[str, tuple[str, str]]) -> None:
        for name, (before, after) in changed.items():
            samples = self.samples.setdefault(name, [])
            if len(samples) < _SAMPLES:
                # A report must not repeat what is masked.
                shown = [mask_personal_data(text, self._kinds)[0] if self._kinds else text for text in (before, after)]
                start = _first_difference(*shown)
                old, new = (_excerpt(text, start) for text in shown)
                samples.append({"row_number": row_number, "before": "" if name == MASKING else old, "after": new})


def clean_text(text: str) -> str:
    """Return ``text`` after every step of repair."""
    return _apply(STEPS, text, {})


def _apply(steps: Mapping[str, Step], text: str, changed: dict[str, tuple[str, str]]) -> str:
    for name, step in steps.items():
        cleaned = step(text)
        if cleaned != text:
            changed.setdefault(name, (text, cleaned))
            text = cleaned
    return text


def _first_difference(before: str, after: str) -> int:
    pairs = enumerate(zip(before, after, strict=False))
    first = next((index for index, (old, new) in pairs if old != new), min(len(before), len(after)))
    return 0 if before == after else first


def _excerpt(text: str, start: int) -> str:
    begin = max(0, start - _SAMPLE_CHARACTERS // 2)
    return text[begin : begin + _SAMPLE_CHARACTERS]
