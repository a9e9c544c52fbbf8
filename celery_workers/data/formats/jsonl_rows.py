"""Read JSON Lines: one object a line. A row's number is its line's, as editors count them; blank lines are passed over.

UTF-8 is decoded from bytes by msgspec, five times as fast as Python's own JSON. What it refuses, Python reads again: to
accept what is only unusual (NaN, half characters), or to say what is wrong and where.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator

import msgspec

from celery_workers.data.compression import ByteStream, open_bytes
from celery_workers.data.formats.json_values import MAX_DEPTH, BrokenValueError, decode_row
from celery_workers.data.rows import (
    BATCH_CHARACTERS,
    BATCH_ROWS,
    MAX_ROW_CHARACTERS,
    RowBatch,
    SourceFile,
    SourceRow,
    broken,
)
from celery_workers.data.text_stream import TextStream, decode, encoding_of

_SAMPLE_BYTES = 64 * 1024
_CHUNK_BYTES = 1024 * 1024
MAX_LINE_BYTES = 4 * MAX_ROW_CHARACTERS
"""A line of more bytes has too many characters, however many bytes each takes."""
_load = msgspec.json.Decoder().decode


def read_jsonl(source: SourceFile) -> Iterator[RowBatch]:
    """Yield the rows of a JSON Lines file; a line that cannot be read is a broken row, and reading goes on."""
    with open_bytes(source) as stream:
        if not has_utf8_lines(stream):
            with decode(stream) as text:
                yield from _batches(_text_lines(text), stream)
            return
        yield from _batches(_byte_lines(stream), stream)


def has_utf8_lines(stream: ByteStream) -> bool:
    """Whether ``stream``, at its beginning, holds UTF-8 with usual line ends; if so, its byte order mark is passed over."""
    head = stream.file.peek(_SAMPLE_BYTES)
    encoding = encoding_of(head)
    has_own_line_ends = b"\n" not in head and b"\r" in head
    if encoding == "utf-16" or has_own_line_ends:
        return False
    if encoding == "utf-8-sig":
        stream.file.read(len(codecs.BOM_UTF8))
    return True


Line = tuple[SourceRow | None, int]
"""The row of a line, if it is not blank, and the length of the line."""


def _batches(lines: Iterator[Line], stream: ByteStream) -> Iterator[RowBatch]:
    rows: list[SourceRow] = []
    size = 0
    for row, length in lines:
        size += length
        if row is not None:
            rows.append(row)
        if len(rows) >= BATCH_ROWS or size >= BATCH_CHARACTERS:
            yield RowBatch(rows, stream.fraction)
            rows, size = [], 0
    yield RowBatch(rows, 1.0)


def _byte_lines(stream: ByteStream) -> Iterator[Line]:
    number = 0
    while line := stream.file.readline(MAX_LINE_BYTES):
        number += 1
        yield read_line(number, line, stream), len(line)


def read_line(number: int, line: bytes, stream: ByteStream) -> SourceRow | None:
    """Return the row of a line of UTF-8, or why it cannot be read; nothing for a blank one.

    A line that is too long may be its beginning only: the rest is passed over in ``stream``.
    """
    if len(line) < MAX_ROW_CHARACTERS:
        try:
            value = _load(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            value = None
        if type(value) is dict and line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
            return SourceRow(number, value)
    return _row(number, line.decode("utf-8", errors="replace"), lambda: _skip_line(stream))


def _text_lines(text: TextStream) -> Iterator[Line]:
    number = 0
    while line := text.line(MAX_ROW_CHARACTERS):
        number += 1
        yield _row(number, line, text.skip_line), len(line)


def _row(number: int, line: str, skip_line: Callable[[], int]) -> SourceRow | None:
    if len(line) >= MAX_ROW_CHARACTERS:
        length = len(line) + (0 if line.endswith("\n") else skip_line())
        message = f"a line must be shorter than {MAX_ROW_CHARACTERS} characters, got {length}"
        return broken(number, message, code="row_too_long")
    if line.isspace():
        return None
    try:
        return SourceRow(number, decode_row(line.rstrip("\r\n")))
    except BrokenValueError as error:
        ends_in_row = "" if line.endswith("\n") else "; the file may end in mid-row"
        return broken(number, f"is not a JSON object: {error}{ends_in_row}")


def _skip_line(stream: ByteStream) -> int:
    """Pass over the rest of a line and return its length in characters, in bounded memory."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    skipped = 0
    while part := stream.file.readline(_CHUNK_BYTES):
        skipped += len(decoder.decode(part))
        if part.endswith(b"\n"):
            break
    return skipped
