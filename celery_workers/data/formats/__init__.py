"""Files as a stream of rows: CSV, TSV, JSON, JSON Lines, Parquet, text and Markdown, each also compressed with gzip or zstd,
in memory that does not grow with the file.

    source = SourceFile(path=path, name="orders.jsonl")
    file_format = detect_file_format(source)
    for batch in read_rows(source, file_format): ...

A row that cannot be read is handed on as a broken row, with its number and the reason, where the format lets reading go
on behind it (all but JSON and Parquet); elsewhere the first broken row ends the reading with an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum

from celery_workers.data.formats.csv_rows import read_csv, read_tsv
from celery_workers.data.formats.json_rows import read_json
from celery_workers.data.formats.jsonl_rows import read_jsonl
from celery_workers.data.formats.sniff import Content, holds_json, look
from celery_workers.data.formats.text_rows import read_markdown, read_text
from celery_workers.data.rows import RowBatch, SourceFile


class FileFormat(StrEnum):
    """The file formats that can be read."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"
    TSV = "tsv"
    TEXT = "text"
    MARKDOWN = "markdown"


_EXTENSIONS = {
    "csv": FileFormat.CSV,
    "tsv": FileFormat.TSV,
    "tab": FileFormat.TSV,
    "json": FileFormat.JSON,
    "jsonl": FileFormat.JSONL,
    "ndjson": FileFormat.JSONL,
    "parquet": FileFormat.PARQUET,
    "txt": FileFormat.TEXT,
    "text": FileFormat.TEXT,
    "md": FileFormat.MARKDOWN,
    "markdown": FileFormat.MARKDOWN,
}
_JSON_FAMILY = (FileFormat.JSON, FileFormat.JSONL)
_PROSE = (FileFormat.TEXT, FileFormat.MARKDOWN)
_ANY_TEXT = (FileFormat.CSV, FileFormat.TSV, *_PROSE)


def detect_file_format(source: SourceFile, requested: FileFormat | None = None) -> FileFormat:
    """Return the format that the file's content has, which must agree with what was asked for or its name promises.

    JSON and JSON Lines stand in for each other: which of the two it is, the content decides. They are found under the name
    of a text file too; CSV is not, as any text could be that.

    Raises: UserInputError: the file is empty, of a kind that cannot be read, or not what it says it is.
    """
    content = look(source)
    promised = requested or _EXTENSIONS.get(source.extension)
    if promised is None and source.extension and content is Content.TEXT:
        known = ", ".join(sorted(_EXTENSIONS))
        raise source.error(f"the name must end in one of {known}, got .{source.extension}", code="wrong_format")
    if content is Content.TEXT:
        found = promised if promised in _ANY_TEXT else FileFormat.CSV
    elif promised in _PROSE and (requested or not holds_json(source)):
        return promised  # prose may begin with a bracket
    else:
        found = FileFormat(content.value)
    if promised is None or found == promised or (found in _JSON_FAMILY and promised in (*_JSON_FAMILY, *_PROSE)):
        return found
    because = "format" if requested else "name"
    raise source.error(f"the {because} says {promised.value}, but the content is {found.value}", code="wrong_format")


def read_rows(source: SourceFile, file_format: FileFormat) -> Iterator[RowBatch]:
    """Yield the rows of ``source`` in batches.

    Raises: UserInputError: the file cannot be read (further); the message names file, row and column.
    """
    yield from _reader(file_format)(source)


def _reader(file_format: FileFormat) -> Callable[[SourceFile], Iterator[RowBatch]]:
    if file_format is FileFormat.PARQUET:
        # pyarrow takes 100 ms and 40 MB: the web server loads it for this format only.
        from celery_workers.data.formats.parquet_rows import read_parquet

        return read_parquet
    return {
        FileFormat.CSV: read_csv,
        FileFormat.TSV: read_tsv,
        FileFormat.JSON: read_json,
        FileFormat.JSONL: read_jsonl,
        FileFormat.TEXT: read_text,
        FileFormat.MARKDOWN: read_markdown,
    }[file_format]
