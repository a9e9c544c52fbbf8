"""Mend what a validation report found: a file with the rows of another, fixed by code, and an account of every change.

    fixed = write_fixed(source, target, codes=["control_characters", "email_address", "duplicate_row"])
    fixed.changes          # what each code changed, with row numbers of the file as it was
    fixed.rows_after

The new file is JSON Lines with the columns that the rows had. Texts are mended first; a row is dropped only for an error
that is still there then. Contents are compared by 128 bits.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from celery_workers.data.canonical import CanonicalRow, to_canonical
from celery_workers.data.checks import CONTROL_CHARACTERS, check_row
from celery_workers.data.dedup import content_key
from celery_workers.data.formats import FileFormat, read_rows
from celery_workers.data.importing import open_rows
from celery_workers.data.mojibake import repair_mojibake
from celery_workers.data.personal_data import PersonalData, mask_personal_data
from celery_workers.data.personal_problems import KINDS
from celery_workers.data.plain import plain
from celery_workers.data.row_formats import Detected, RowFormat
from celery_workers.data.rows import CODES, Severity, SourceFile, SourceRow
from celery_workers.data.splits import named_side
from celery_workers.data.statistics import SPLIT_COLUMN, question_of

ROW_NUMBERS_PER_CHANGE = 1000


class Action(StrEnum):
    """What a fix does to a row."""

    DROP = "drop"
    STRIP = "strip"
    REPAIR = "repair"
    MASK = "mask"


ACTIONS: dict[str, Action] = {
    **{code: Action.DROP for code, known in CODES.items() if known.severity is Severity.ERROR},
    **dict.fromkeys(("duplicate_row", "leaked_row", "too_long"), Action.DROP),
    **dict.fromkeys(("nul_character", "control_characters"), Action.STRIP),
    **dict.fromkeys(KINDS, Action.MASK),
    "mojibake": Action.REPAIR,
}
"""The fix of each code that has one; what is wrong with the others, only a person can tell."""

SUGGESTED = frozenset(ACTIONS) - {"too_long"}
"""Fixes to apply where nothing else is asked for."""


@dataclass(kw_only=True)
class Change:
    """What the fix of one code did: to how many rows, and the first ``ROW_NUMBERS_PER_CHANGE`` of their numbers."""

    code: str
    rows: int = 0
    row_numbers: list[int] = field(default_factory=list)

    def note(self, row_number: int) -> None:
        """Count a row."""
        self.rows += 1
        if len(self.row_numbers) < ROW_NUMBERS_PER_CHANGE:
            self.row_numbers.append(row_number)

    def as_json(self) -> dict[str, object]:
        """Return the entry of a version's changes."""
        action = ACTIONS[self.code].value
        return {"code": self.code, "action": action, "rows": self.rows, "row_numbers": self.row_numbers}


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """What became of the rows."""

    rows_before: int
    rows_after: int
    changes: list[Change]


class Fixer:
    """Mend rows one by one, and count what each code changed."""

    def __init__(self, detected: Detected, codes: Collection[str]) -> None:
        self._detected = detected
        self._dropping = {code for code in codes if ACTIONS[code] is Action.DROP}
        self._mending = _menders(codes)
        self.changes = {code: Change(code=code) for code in CODES if code in codes}

    def mend(self, row: SourceRow) -> CanonicalRow | None:
        """Return the row as it is kept, its values mended in place of ``row``'s; None if it is dropped."""
        if row.values is not None:
            self._mend_texts(row.values, row.number)
        canonical = to_canonical(row, self._detected)
        problems = check_row(canonical, self._detected.shape)
        dropped_for = next((problem.code for problem in problems if problem.code in self._dropping), None)
        if row.values is None and dropped_for is None:
            dropped_for = problems[0].code  # a row that cannot be read cannot be written either
        if dropped_for is None:
            return canonical
        self.changes.setdefault(dropped_for, Change(code=dropped_for)).note(row.number)
        return None

    def _mend_texts(self, values: dict[str, object], number: int) -> None:
        parts = self._detected.parts
        conversations = {parts[part] for part in ("messages", *self._detected.shape.conversations) if part in parts}
        changed: set[str] = set()
        for name, value in values.items():
            plain = _parsed(value) if name in conversations else value
            values[name] = _map_texts(plain, lambda text: self._mend_text(text, changed))
        for code in changed:
            self.changes[code].note(number)

    def _mend_text(self, text: str, changed: set[str]) -> str:
        for code, mend in self._mending.items():
            mended = mend(text)
            if mended != text:
                changed.add(code)
                text = mended
        return text


def write_fixed(
    source: SourceFile,
    target: Path,
    *,
    codes: Collection[str],
    file_format: FileFormat | None = None,
    row_format: str | None = None,
    mapping: Mapping[str, str] | None = None,
) -> Fixed:
    """Write the rows of ``source``, fixed, to ``target`` as JSON Lines. Memory is 24 bytes a row, and some 100 more
    of each whose ``split`` names a side.

    Raises: UserInputError: the file cannot be read. KeyError: a code has no fix.
    """
    requested = RowFormat(row_format) if row_format else None
    opened = open_rows(source, file_format=file_format, row_format=requested, mapping=mapping)
    fixer = Fixer(opened.detected, codes)
    kept = _Kept()
    rows = 0
    with target.open("wb") as output:
        for batch in read_rows(source, opened.file_format):
            for row in batch.rows:
                rows += 1
                canonical = fixer.mend(row)
                if canonical is not None and row.values is not None:
                    kept.add(canonical, opened.detected)
                    output.write(_line(row.values))
    dropped = _unwanted(kept, fixer.changes)
    if dropped:
        _drop_lines(target, dropped)
    changes = [change for change in fixer.changes.values() if change.rows]
    return Fixed(rows_before=rows, rows_after=len(kept.numbers) - len(dropped), changes=changes)


class _Kept:
    """What is remembered of each row that was written: its number, and 128 bits of its content and of its question."""

    def __init__(self) -> None:
        self.numbers = array("q")
        self.contents = bytearray()
        self.questions: dict[bytes, None] = {}
        self._training: list[tuple[int, bytes]] = []

    def add(self, row: CanonicalRow, detected: Detected) -> None:
        side = named_side(row.extras.get(SPLIT_COLUMN))
        if side is not None:
            key = content_key({"question": question_of(row.values, detected.shape)})
            if side:
                self.questions[key] = None
            else:
                self._training.append((len(self.numbers), key))
        self.numbers.append(row.number)
        self.contents += content_key(row.values)

    def leaks(self) -> list[int]:
        """Return the positions of training rows that ask what an evaluation row asks."""
        return [position for position, key in self._training if key in self.questions]

    def repeats(self, dropped: Collection[int]) -> list[int]:
        """Return the positions of rows whose content stood before in one that is not ``dropped``."""
        import numpy as np

        keys = np.frombuffer(self.contents, dtype=[("low", np.uint64), ("high", np.uint64)])
        positions = np.setdiff1d(np.arange(len(keys)), np.array(sorted(dropped), dtype=np.int64))
        order = np.lexsort((keys["low"][positions], keys["high"][positions]))  # stable: the first of a content comes first
        ranked = keys[positions[order]]
        return sorted(map(int, positions[order[1:]][ranked[1:] == ranked[:-1]]))


def _unwanted(kept: _Kept, changes: Mapping[str, Change]) -> set[int]:
    """Return the positions of the rows to drop for what other rows are, and count them."""
    dropped: set[int] = set()
    for code in ("leaked_row", "duplicate_row"):
        if code not in changes or not kept.numbers:
            continue
        found = kept.leaks() if code == "leaked_row" else kept.repeats(dropped)
        dropped.update(found)
        for position in found:
            changes[code].note(kept.numbers[position])
    return dropped


def _drop_lines(path: Path, positions: Collection[int]) -> None:
    """Take lines out of a file of JSON Lines, which has no line end inside a row."""
    draft = path.with_name(f"{path.name}.draft")
    try:
        with path.open("rb") as before, draft.open("wb") as after:
            after.writelines(line for position, line in enumerate(before) if position not in positions)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _menders(codes: Collection[str]) -> dict[str, Callable[[str], str]]:
    """Return the function of each code that mends texts, in the order in which they must come."""
    menders: dict[str, Callable[[str], str]] = {
        "mojibake": repair_mojibake,  # before what it explains is stripped
        "nul_character": lambda text: text.replace("\0", ""),
        "control_characters": lambda text: CONTROL_CHARACTERS.sub("", text),
    }
    chosen = {code: mend for code, mend in menders.items() if code in codes}
    for code, kind in KINDS.items():
        if code in codes:
            chosen[code] = _masker(kind)
    return chosen


def _masker(kind: PersonalData) -> Callable[[str], str]:
    return lambda text: mask_personal_data(text, [kind])[0]


def _map_texts(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _map_texts(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_texts(item, change) for item in value]
    return value


def _parsed(value: object) -> object:
    """Return a conversation that stands as JSON in a field of a CSV file as the list that it is."""
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    is_conversation = isinstance(parsed, list) and all(
        isinstance(item, dict) and {"role", "from"} & item.keys() for item in parsed
    )
    return parsed if is_conversation else value


def _line(values: Mapping[str, object]) -> bytes:
    values = plain(values)
    text = json.dumps(values, ensure_ascii=False)
    try:
        return f"{text}\n".encode()
    except UnicodeEncodeError:  # a lone surrogate, which only an escape can spell
        return f"{json.dumps(values)}\n".encode()
