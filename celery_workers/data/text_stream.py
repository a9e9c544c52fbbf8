"""Open a text file in the encoding that its first bytes announce."""

from __future__ import annotations

import codecs
import io
from contextlib import contextmanager
from typing import TYPE_CHECKING

from celery_workers.data.compression import ByteStream, open_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_workers.data.rows import SourceFile

_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
REPLACEMENT = "\ufffd"
"""What stands where bytes could not be decoded; the checks find it and call it encoding damage."""


def encoding_of(head: bytes) -> str:
    """Return the encoding by the byte order mark in ``head``; UTF-8 where there is none."""
    return next((encoding for mark, encoding in _BYTE_ORDER_MARKS if head.startswith(mark)), "utf-8")


class TextStream:
    """Decoded text, and how much of the file lies behind. Undecodable bytes become ``REPLACEMENT``."""

    def __init__(self, stream: ByteStream, text: io.TextIOWrapper) -> None:
        self._stream = stream
        self._text = text

    @property
    def fraction(self) -> float:
        """The part of the file that has been read, 0 to 1."""
        return self._stream.fraction

    def read(self, characters: int) -> str:
        """Return up to ``characters`` more; nothing at the end."""
        return self._text.read(characters)

    def line(self, limit: int) -> str:
        """Return the next line with its ending, or its first ``limit`` characters; nothing at the end."""
        return self._text.readline(limit)

    def skip_line(self) -> int:
        """Pass over the rest of a line and return its length in characters, in bounded memory."""
        skipped = 0
        while part := self._text.readline(1024 * 1024):
            skipped += len(part)
            if part.endswith("\n"):
                break
        return skipped


@contextmanager
def open_text(source: SourceFile, *, newline: str | None = None) -> Iterator[TextStream]:
    """Open ``source``, which may be compressed, for reading text; ``newline`` as in ``open``."""
    with open_bytes(source) as stream, decode(stream, newline=newline) as text:
        yield text


@contextmanager
def decode(stream: ByteStream, *, newline: str | None = None) -> Iterator[TextStream]:
    """Read ``stream`` as text, in the encoding that its first bytes announce."""
    encoding = encoding_of(stream.file.peek(4)[:4])
    with io.TextIOWrapper(stream.file, encoding=encoding, errors="replace", newline=newline) as text:
        yield TextStream(stream, text)
