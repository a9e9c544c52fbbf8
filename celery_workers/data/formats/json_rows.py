"""Read JSON: an array of objects, or an object with one such array. A row's number is its place in the array.

The array is decoded element by element from a moving buffer, so that memory does not grow with the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from celery_workers.data.formats.json_values import BrokenValueError, as_row, explain, raw_decode
from celery_workers.data.rows import BATCH_CHARACTERS, BATCH_ROWS, MAX_ROW_CHARACTERS, RowBatch, SourceFile, SourceRow
from celery_workers.data.text_stream import TextStream, open_text

_CHUNK_CHARACTERS = 1024 * 1024
# An error this close to the end of the buffer may only mean that the value goes on beyond it.
_LONGEST_LITERAL = 16


def read_json(source: SourceFile) -> Iterator[RowBatch]:
    """Yield the rows of a JSON file.

    Raises: UserInputError: the text is not JSON from some row on, holds no or several arrays of objects, or a row is too
    long; the message names the row.
    """
    with open_text(source) as stream:
        cursor = _Cursor(source, stream)
        rows: list[SourceRow] = []
        for row in _top_level(source, cursor):
            rows.append(row)
            if len(rows) >= BATCH_ROWS or cursor.characters >= BATCH_CHARACTERS:
                yield RowBatch(rows, stream.fraction)
                rows, cursor.characters = [], 0
        if cursor.peek():
            raise cursor.broken(f"{cursor.peek()!r} stands after the end of the JSON text")
        yield RowBatch(rows, 1.0)


class _Cursor:
    """A place in the text, with as much of it decoded ahead as the next value needs."""

    def __init__(self, source: SourceFile, stream: TextStream) -> None:
        self._source = source
        self._stream = stream
        self._buffer = ""
        self._position = 0
        self.row = 0
        self.characters = 0

    def broken(self, message: str, *, code: str = "broken_json") -> Exception:
        """Return the error that names the row being read."""
        return self._source.error(message, code=code, row=self.row or None)

    def peek(self) -> str:
        """Return the next character that is no white space, without taking it; nothing at the end."""
        while True:
            while self._position < len(self._buffer):
                character = self._buffer[self._position]
                if character not in " \t\r\n":
                    return character
                self._position += 1
            if not self._fill(_CHUNK_CHARACTERS):
                return ""

    def take(self, expected: str) -> str:
        """Take the next character, which must be one of ``expected``.

        Raises: UserInputError: it is another, or the file ends.
        """
        character = self.peek()
        if not character:
            raise self.broken("the file ends in the middle of the JSON text", code="ends_in_mid_row")
        if character not in expected:
            raise self.broken(f"expected {' or '.join(expected)}, got {character!r}")
        self._position += 1
        return character

    def value(self) -> tuple[object, str]:
        """Take the next value; return it and its text.

        Raises: UserInputError: it is not JSON, nested too deeply or too long.
        """
        self.peek()
        while True:
            try:
                value, end = raw_decode(self._buffer, self._position)
            except json.JSONDecodeError as error:
                self._read_on_or_raise(error)
                continue
            except RecursionError as error:
                raise self.broken("is nested too deeply") from error
            except ValueError as error:  # a number of more than 4,300 digits
                raise self.broken(str(error)) from error
            if end == len(self._buffer) and self._fill(_CHUNK_CHARACTERS):
                continue  # a number at the buffer's end may have more digits
            text = self._buffer[self._position : end]
            self._position = end
            self.characters += len(text)
            return value, text

    def _read_on_or_raise(self, error: json.JSONDecodeError) -> None:
        waiting = len(self._buffer) - self._position
        is_unterminated = error.msg.startswith("Unterminated string")
        may_be_cut = is_unterminated or error.pos >= len(self._buffer) - _LONGEST_LITERAL
        if may_be_cut and waiting >= MAX_ROW_CHARACTERS:
            message = f"a value must be shorter than {MAX_ROW_CHARACTERS} characters"
            raise self.broken(message, code="row_too_long") from error
        reason, ends_here = explain(error, start=self._position), error.pos >= len(self._buffer.rstrip())
        # Reading as much again as waits keeps the repeated decoding of a long value linear.
        if may_be_cut and self._fill(max(_CHUNK_CHARACTERS, waiting)):
            return
        if is_unterminated or ends_here:
            raise self.broken("the file ends in the middle of the JSON text", code="ends_in_mid_row") from error
        raise self.broken(f"is not JSON: {reason}") from error

    def _fill(self, characters: int) -> bool:
        part = self._stream.read(characters)
        self._buffer = self._buffer[self._position :] + part
        self._position = 0
        return bool(part)


def _top_level(source: SourceFile, cursor: _Cursor) -> Iterator[SourceRow]:
    if cursor.take("[{") == "[":
        yield from _elements(cursor)
        return
    found: list[str] = []
    while cursor.peek() != "}":
        key, _ = cursor.value()
        cursor.take(":")
        if cursor.peek() == "[":
            cursor.take("[")
            if cursor.peek() == "{":
                found.append(str(key))
                if len(found) > 1:
                    message = f"must hold one array of objects, got {' and '.join(map(repr, found))}"
                    raise source.error(message, code="several_arrays")
                yield from _elements(cursor)
            else:
                _pass_over_array(cursor)
        else:
            cursor.value()
        if cursor.peek() != "}":
            cursor.take(",}")
    cursor.take("}")
    if not found:
        raise source.error("must be an array of objects, or an object with one such array", code="no_array")


def _elements(cursor: _Cursor) -> Iterator[SourceRow]:
    cursor.row = 0
    while cursor.peek() != "]":
        cursor.row += 1
        value, text = cursor.value()
        try:
            yield SourceRow(cursor.row, as_row(value, text))
        except BrokenValueError as error:
            raise cursor.broken(str(error)) from error
        if cursor.peek() != "]":
            cursor.take(",]")
            if cursor.peek() == "]":
                raise cursor.broken("a comma stands before the end of the array")
    cursor.take("]")
    cursor.row = 0


def _pass_over_array(cursor: _Cursor) -> None:
    while cursor.peek() != "]":
        cursor.value()
        if cursor.peek() != "]":
            cursor.take(",]")
    cursor.take("]")
