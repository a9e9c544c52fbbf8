"""Look at the beginning of a file to tell what it holds."""

from __future__ import annotations

import json
from enum import StrEnum

from celery_workers.data.compression import open_bytes
from celery_workers.data.formats.json_values import raw_decode
from celery_workers.data.rows import SourceFile
from celery_workers.data.text_stream import encoding_of

_SAMPLE_BYTES = 256 * 1024
_ROW_KEYS = frozenset({"messages", "conversations", "chosen", "rejected", "completion", "preferred_output"})
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive (an Excel or other office file is one)"),
    (b"\x1f\x8b", "gzip-compressed twice"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed twice"),
    (b"BZh", "bzip2-compressed; gzip and zstd are read"),
    (b"\xfd7zXZ", "xz-compressed; gzip and zstd are read"),
    (b"%PDF", "a PDF"),
    (b"\xd0\xcf\x11\xe0", "an old office file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"ARROW1", "an Arrow file"),
    (b"Obj\x01", "an Avro file"),
)


class Content(StrEnum):
    """What a file holds. TEXT is any text that is not JSON: CSV, TSV, plain text or Markdown."""

    PARQUET = "parquet"
    JSON = "json"
    JSONL = "jsonl"
    TEXT = "text"


def look(source: SourceFile) -> Content:
    """Return what the beginning of ``source`` says it holds.

    Raises: UserInputError: it is empty, or binary of another kind.
    """
    with open_bytes(source) as stream:
        head = stream.file.read(_SAMPLE_BYTES)
    if head.startswith(b"PAR1"):
        return Content.PARQUET
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            raise source.error(
                f"is {name}; CSV, TSV, JSON, JSON Lines, Parquet, text or Markdown is needed", code="wrong_format"
            )
    encoding = encoding_of(head)
    if encoding != "utf-16" and b"\0" in head:
        message = "holds NUL bytes, so it is binary or UTF-16 without a byte order mark; save it as UTF-8"
        raise source.error(message, code="nul_bytes")
    text = head.decode(encoding, errors="replace").lstrip("\ufeff \t\r\n")
    if not text and len(head) < _SAMPLE_BYTES:
        raise source.error("the file is empty", code="empty_file")
    if text.startswith("["):
        return Content.JSON
    if text.startswith("{"):
        return _json_or_lines(source, text)
    return Content.TEXT


def holds_json(source: SourceFile) -> bool:
    """Whether the beginning of ``source`` is an object, or an array of objects: prose may begin with a bracket too."""
    with open_bytes(source) as stream:
        head = stream.file.read(_SAMPLE_BYTES)
    text = head.decode(encoding_of(head), errors="replace").lstrip("\ufeff \t\r\n[")
    try:
        value, _ = raw_decode(text)
    except (json.JSONDecodeError, RecursionError, ValueError):
        return False
    return isinstance(value, dict)


def _json_or_lines(source: SourceFile, text: str) -> Content:
    """Tell one object with an array of rows from one object a line."""
    try:
        value, end = raw_decode(text)
    except (json.JSONDecodeError, RecursionError, ValueError):
        return _json_or_lines_by_shape(source, text)
    if text[end:].strip():
        return Content.JSONL
    if "\n" in text[:end]:
        return Content.JSON
    if source.extension in ("jsonl", "ndjson") or _ROW_KEYS & set(value):
        return Content.JSONL
    holds_rows = any(isinstance(item, list) and item and isinstance(item[0], dict) for item in value.values())
    return Content.JSON if holds_rows else Content.JSONL


def _json_or_lines_by_shape(source: SourceFile, text: str) -> Content:
    lines = [line for line in text.split("\n", maxsplit=50) if line.strip()]
    if len(lines) > 1 and lines[1].lstrip().startswith("{") and len(lines[0].strip()) > 1:
        return Content.JSONL
    return Content.JSONL if source.extension in ("jsonl", "ndjson") else Content.JSON
