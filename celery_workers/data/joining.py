"""Join the files of one split to a single file, in their order, without holding one in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from celery_workers.data.column_mapping import write_row
from celery_workers.data.formats import FileFormat, detect_file_format, read_rows
from celery_workers.data.formats.parquet_rows import read_parquet_batches
from celery_workers.data.rows import SourceFile


def join_files(sources: Sequence[SourceFile], target: Path, *, after_each: Callable[[], None]) -> FileFormat:
    """Write the rows of all ``sources`` to ``target``; return its format: Parquet of Parquet, else JSON Lines.

    A row that cannot be read stays one, its line says why. ``after_each`` is called after each batch of rows.

    Raises: UserInputError: a file cannot be read, or Parquet files have different columns.
    """
    formats = [detect_file_format(source) for source in sources]
    if set(formats) == {FileFormat.PARQUET}:
        _join_parquet(sources, target, after_each=after_each)
        return FileFormat.PARQUET
    with target.open("wb") as output:
        for source, file_format in zip(sources, formats, strict=True):
            for batch in read_rows(source, file_format):
                for row in batch.rows:
                    write_row(output, row)
                after_each()
    return FileFormat.JSONL


def _join_parquet(sources: Sequence[SourceFile], target: Path, *, after_each: Callable[[], None]) -> None:
    writer: pq.ParquetWriter | None = None
    try:
        for source in sources:
            for batch in read_parquet_batches(source):
                if writer is None:
                    writer = pq.ParquetWriter(target, batch.schema)
                _check_columns(source, batch.schema, writer.schema)
                writer.write_batch(batch)
                after_each()
        if writer is None:
            raise sources[0].error("the files of this split have no row", code="empty_file")
    finally:
        if writer is not None:
            writer.close()


def _check_columns(source: SourceFile, schema: pa.Schema, first: pa.Schema) -> None:
    if not schema.equals(first, check_metadata=False):
        columns, expected = (", ".join(f"{field.name}: {field.type}" for field in item)[:400] for item in (schema, first))
        message = f"has other columns ({columns}) than the first file of the split ({expected}); import one file by its name"
        raise source.error(message, code="different_columns")
