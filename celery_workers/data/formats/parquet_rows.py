"""Read Parquet batch by batch. A row's number is its place in the file.

A dictionary page holds a text once however many rows repeat it, so a file of two kilobytes can unpack to terabytes. Texts
are therefore read as Arrow dictionaries, measured, and only then unpacked, a bounded number of bytes at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from celery_workers.data.compression import unpacked_path
from celery_workers.data.rows import (
    BATCH_CHARACTERS,
    BATCH_ROWS,
    MAX_COLUMNS,
    MAX_ROW_CHARACTERS,
    RowBatch,
    SourceFile,
    SourceRow,
)

MAX_ROW_GROUP_BYTES = 4 * 1024**3
MAX_INFLATION = 1000
"""Uncompressed bytes for each byte of the file, beyond which a file of more than 1 GiB counts as a compression bomb."""

# What the metadata alone may take, which is decoded before anything of it can be checked.
_LIMITS = {"thrift_string_size_limit": 64 * 1024**2, "thrift_container_size_limit": 10**6}


def read_parquet(source: SourceFile) -> Iterator[RowBatch]:
    """Yield the rows of a Parquet file.

    Raises: UserInputError: the file is damaged, too wide, has too long a row, or unpacks to far more than it should.
    """
    row = 0
    for piece, total in _pieces(source):
        rows = [SourceRow(row + index, values) for index, values in enumerate(piece.to_pylist(), 1)]
        row += len(rows)
        yield RowBatch(rows, row / total)


def read_parquet_batches(source: SourceFile) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file as they are; texts are Arrow dictionaries.

    Raises: UserInputError: as ``read_parquet``.
    """
    for piece, _ in _pieces(source):
        yield piece


def _pieces(source: SourceFile) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yield bounded pieces of a file, each with the number of rows of all."""
    row = 0
    try:
        with unpacked_path(source) as path, _open(source, path) as file:
            total = file.metadata.num_rows
            for batch in file.iter_batches(batch_size=_batch_rows(file.metadata), use_threads=False):
                for piece in _bounded(source, batch, row):
                    row += piece.num_rows
                    yield piece, total
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise source.error(
            f"cannot be read as Parquet after row {row}: {reason}", code="broken_parquet", row=row + 1
        ) from error


def _open(source: SourceFile, path: Path) -> pq.ParquetFile:
    with pq.ParquetFile(path, **_LIMITS) as file:
        metadata = file.metadata
    _check_shape(source, metadata, path.stat().st_size)
    leaves = [metadata.schema.column(index) for index in range(metadata.num_columns)]
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    return pq.ParquetFile(path, memory_map=True, read_dictionary=texts, **_LIMITS)


def _check_shape(source: SourceFile, metadata: pq.FileMetaData, size_bytes: int) -> None:
    names = metadata.schema.to_arrow_schema().names
    count = max(len(names), metadata.num_columns)
    if count > MAX_COLUMNS:
        raise source.error(f"must have at most {MAX_COLUMNS} columns, got {count}", code="too_many_columns")
    repeated = [name for name, number in Counter(names).items() if number > 1]
    if repeated:
        raise source.error("the schema has this name more than once", code="duplicate_column", column=repeated[0])
    sizes = [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]
    if max(sizes, default=0) > MAX_ROW_GROUP_BYTES or min(sizes, default=0) < 0:
        message = f"a row group must unpack to at most {MAX_ROW_GROUP_BYTES} bytes, got {max(sizes)}"
        raise source.error(message, code="too_large")
    if sum(sizes) > max(1024**3, MAX_INFLATION * size_bytes):
        message = f"unpacks from {size_bytes} to {sum(sizes)} bytes; at most {MAX_INFLATION} times are read"
        raise source.error(message, code="too_large")


def _batch_rows(metadata: pq.FileMetaData) -> int:
    """Return how many rows hold about one batch of characters, by the average row."""
    total = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    average = max(1, total // max(1, metadata.num_rows))
    return max(1, min(BATCH_ROWS, BATCH_CHARACTERS // average))


def _bounded(source: SourceFile, batch: pa.RecordBatch, rows_before: int) -> Iterator[pa.RecordBatch]:
    """Yield ``batch`` in pieces that unpack to about one batch of characters each, halving it where it would be more."""
    size_bytes = sum(_unpacked_bytes(column) for column in batch.columns)
    if size_bytes <= BATCH_CHARACTERS:
        yield batch
        return
    if batch.num_rows <= 1:
        if size_bytes > MAX_ROW_CHARACTERS:
            message = f"a row must unpack to at most {MAX_ROW_CHARACTERS} bytes, got {size_bytes}"
            raise source.error(message, code="row_too_long", row=rows_before + 1)
        yield batch
        return
    half = batch.num_rows // 2
    yield from _bounded(source, batch.slice(0, half), rows_before)
    yield from _bounded(source, batch.slice(half), rows_before + half)


def _unpacked_bytes(array: pa.Array) -> int:
    """Return the bytes of ``array`` when every repetition of a text is written out."""
    if isinstance(array, pa.DictionaryArray):
        if not len(array.dictionary):
            return 0
        lengths = pc.cast(pc.binary_length(array.dictionary), pa.int64())
        return pc.sum(pc.take(lengths, array.indices)).as_py() or 0
    if isinstance(array, pa.StructArray):
        return sum(_unpacked_bytes(child) for child in array.flatten())
    if isinstance(array, pa.MapArray):
        return _unpacked_bytes(array.keys) + _unpacked_bytes(array.items)
    if isinstance(array, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        return _unpacked_bytes(array.flatten())
    return int(array.nbytes)
