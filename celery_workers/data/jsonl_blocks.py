"""Read JSON Lines a block at a time, as canonical columns.

Lines are decoded by msgspec into a type made of the columns and kinds of values that were seen so far. A line that does not
fit the type (a new column, another kind of value, messages that say more than role and text, broken JSON) is read by
itself, as ``importing`` reads rows, and teaches the type what it lacks. What comes out is the same either way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from celery_workers.data.blocks import Block
from celery_workers.data.canonical import CanonicalRow, to_canonical
from celery_workers.data.columns import Columns
from celery_workers.data.compression import ByteStream, open_bytes
from celery_workers.data.formats.json_values import MAX_DEPTH
from celery_workers.data.formats.jsonl_rows import MAX_LINE_BYTES, has_utf8_lines, read_line
from celery_workers.data.line_types import LineType, can_type
from celery_workers.data.row_formats import Detected
from celery_workers.data.rows import MAX_ROW_CHARACTERS, SourceFile, SourceRow

BLOCK_BYTES = 4 * 1024 * 1024
_MAX_TYPES = 100
"""Types that are made for one file; one that needs more is full of surprises, and read line by line from there."""


def can_read_blocks(source: SourceFile, detected: Detected) -> bool:
    """Whether ``read_blocks`` knows the encoding of ``source`` and the spelling of its rows."""
    if not can_type(detected):
        return False
    with open_bytes(source) as stream:
        return has_utf8_lines(stream)


def read_blocks(
    source: SourceFile, detected: Detected, columns: Columns, first: Sequence[SourceRow]
) -> Iterator[tuple[Block, float]]:
    """Yield the rows of ``source``, for which ``can_read_blocks`` holds, and the fraction of it read.

    ``columns``, which know the ``first`` rows, learn what the others have.

    Raises: UserInputError: the file unpacks to far too much, is damaged, or has too many columns.
    """
    with open_bytes(source) as stream:
        has_utf8_lines(stream)
        reader = _Reader(stream, detected, columns, first)
        number = 1
        for lines, end in _lines(stream):
            for block in reader.blocks(lines, end, number):
                yield block, stream.fraction
            number += len(lines)


def _lines(stream: ByteStream) -> Iterator[tuple[list[bytes], bytes]]:
    """Yield about ``BLOCK_BYTES`` of whole lines at a time, and the line end that was taken off each.

    A line without one comes alone: the last of the file, or the first ``MAX_LINE_BYTES`` of one that goes on in the stream.
    """
    while piece := stream.file.read(BLOCK_BYTES):
        lines = piece.split(b"\n")
        last = lines.pop()
        if last:
            last += stream.file.readline(MAX_LINE_BYTES - len(last))
        if last.endswith(b"\n"):
            lines.append(last[:-1])
            last = b""
        if lines:
            yield lines, b"\n"
        if last:
            yield [last], b""


class _Reader:
    def __init__(self, stream: ByteStream, detected: Detected, columns: Columns, first: Sequence[SourceRow]) -> None:
        self._first = first
        self._stream = stream
        self._detected = detected
        self._columns = columns
        self._types_made = 0
        self._make_type()

    def _make_type(self) -> None:
        self._type = LineType(self._detected, self._columns, self._first)
        self._known = self._columns.size
        self._types_made += 1

    @property
    def _is_behind(self) -> bool:
        """Whether more is known of the columns than the type says."""
        return self._known != self._columns.size and self._types_made < _MAX_TYPES

    def blocks(self, lines: Sequence[bytes], end: bytes, number: int) -> Iterator[Block]:
        """Yield the rows of ``lines``, the first of which has ``number``: several blocks where the type changes."""
        start = 0
        while start < len(lines):
            block, start = self._read(lines, end, start=start, number=number)
            if self._is_behind:
                self._make_type()
            if len(block):
                yield block

    def _read(self, lines: Sequence[bytes], end: bytes, *, start: int, number: int) -> tuple[Block, int]:
        """Return the rows of the lines from ``start`` on that one type reads, and the index of the first line beyond."""
        decode, blank = self._type.decode, self._type.blank
        is_too_long = not end and len(lines[0]) >= MAX_ROW_CHARACTERS
        places: list[int] = []
        rows: list[object] = []
        odd: dict[int, CanonicalRow] = {}
        index = start
        for index in range(start, len(lines)):
            try:
                if is_too_long:
                    raise msgspec.DecodeError
                rows.append(decode(lines[index]))
                places.append(index)
                continue
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                row = self._read_alone(lines[index] + end, number + index)
            if row is not None:
                odd[len(rows)] = row
                rows.append(blank)
                places.append(index)
            if self._is_behind:
                break
        for place in self._unlike_their_type(rows, lines, places):
            row = self._read_alone(lines[places[place]] + end, number + places[place])
            if row is not None:
                odd[place], rows[place] = row, blank
        return self._type.block([number + place for place in places], rows, odd), index + 1

    def _unlike_their_type(self, rows: Sequence[object], lines: Sequence[bytes], places: Sequence[int]) -> list[int]:
        """Return the positions of ``rows`` whose type was right but that cannot be taken as they are."""
        nested = [place for place in self._type.nested(rows) if _depth_bound(lines[places[place]]) > MAX_DEPTH]
        return [*nested, *self._type.calls(rows)]

    def _read_alone(self, line: bytes, number: int) -> CanonicalRow | None:
        row = read_line(number, line, self._stream)
        if row is None:
            return None
        self._columns.add([row])
        return to_canonical(row, self._detected)


def _depth_bound(line: bytes) -> int:
    return line.count(b"[") + line.count(b"{")
