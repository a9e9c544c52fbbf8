"""Read files that may be compressed with gzip or zstd, unpacking as they are read and no further than is sensible.

A few kilobytes can unpack to terabytes. What comes out is therefore counted against what went in, and against a limit that
no sensible file reaches.
"""

from __future__ import annotations

import gzip
import io
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from celery_workers.data.rows import SourceFile

MAX_INFLATION = 250
"""Unpacked bytes for each byte of the file, beyond which it counts as a compression bomb. Text unpacks to 3 to 20 times."""
INFLATION_IS_FREE_BYTES = 64 * 1024**2
"""Unpacked bytes before the ratio counts: small files of few different rows may well unpack to more."""
MAX_UNPACKED_BYTES = 64 * 1024**3

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BUFFER_BYTES = 1024 * 1024


class ByteStream:
    """The bytes of a file, unpacked, and how much of the file lies behind them."""

    def __init__(self, file: io.BufferedReader, raw: BinaryIO, size_bytes: int) -> None:
        self.file = file
        self._raw = raw
        self._size_bytes = size_bytes

    @property
    def fraction(self) -> float:
        """The part of the file that has been read, 0 to 1."""
        return min(1.0, self._raw.tell() / self._size_bytes) if self._size_bytes else 1.0


@contextmanager
def open_bytes(source: SourceFile) -> Iterator[ByteStream]:
    """Open ``source`` for reading what is in it.

    While it is read: UserInputError: it unpacks to far too much, or is damaged.
    """
    with source.path.open("rb", buffering=0) as raw:
        head = raw.read(4)
        raw.seek(0)
        unpacking = _unpacking(raw, head)
        if unpacking is None:
            yield ByteStream(io.BufferedReader(raw, _BUFFER_BYTES), raw, source.size_bytes)
            return
        with io.BufferedReader(_Unpacked(source, unpacking, raw), _BUFFER_BYTES) as file:
            yield ByteStream(file, raw, source.size_bytes)


@contextmanager
def unpacked_path(source: SourceFile) -> Iterator[Path]:
    """Give the path of a file with the content of ``source``: its own, or a temporary one where it is compressed.

    Raises: UserInputError: it unpacks to far too much, or is damaged.
    """
    with source.path.open("rb") as file:
        head = file.read(4)
    if not head.startswith((_GZIP, _ZSTD)):
        yield source.path
        return
    with tempfile.NamedTemporaryFile(suffix=".unpacked") as copy, open_bytes(source) as stream:
        while chunk := stream.file.read(_BUFFER_BYTES):
            copy.write(chunk)
        copy.flush()
        yield Path(copy.name)


def _unpacking(raw: BinaryIO, head: bytes) -> BinaryIO | None:
    if head.startswith(_GZIP):
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    if head.startswith(_ZSTD):
        # pyarrow takes 100 ms and 40 MB: the web server loads it for such files only.
        import pyarrow as pa

        return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd"))
    return None


class _Unpacked(io.RawIOBase):
    """What a decompressor gives, counted."""

    def __init__(self, source: SourceFile, unpacking: BinaryIO, raw: BinaryIO) -> None:
        self._source = source
        self._unpacking = unpacking
        self._raw = raw
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            part = self._unpacking.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            reason = str(error).partition("\n")[0]
            message = f"cannot be unpacked after {self._count} bytes: {reason}; the file is damaged or ends too early"
            raise self._source.error(message, code="broken_compression") from error
        self._count += len(part)
        read = self._raw.tell()
        if self._count > max(INFLATION_IS_FREE_BYTES, MAX_INFLATION * read):
            message = f"unpacks from {read} to more than {self._count} bytes; at most {MAX_INFLATION} times are read"
            raise self._source.error(message, code="too_large")
        if self._count > MAX_UNPACKED_BYTES:
            raise self._source.error(f"must unpack to at most {MAX_UNPACKED_BYTES} bytes", code="too_large")
        buffer[: len(part)] = part
        return len(part)
