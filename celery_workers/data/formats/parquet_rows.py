"""Read Parquet batch by batch. A row's number is its place in the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from celery_workers.data.rows import BATCH_CHARACTERS, BATCH_ROWS, MAX_COLUMNS, RowBatch, SourceFile, SourceRow

MAX_ROW_GROUP_BYTES = 4 * 1024**3
MAX_INFLATION = 1000
"""Uncompressed bytes for each byte of the file, beyond which a file of more than 1 GiB counts as a compression bomb."""


def read_parquet(source: SourceFile) -> Iterator[RowBatch]:
    """Yield the rows of a Parquet file.

    Raises: UserInputError: the file is damaged, too wide, or unpacks to far more than it should.
    """
    row = 0
    try:
        with pq.ParquetFile(
            source.path, memory_map=True, thrift_string_size_limit=64 * 1024**2, thrift_container_size_limit=10**6
        ) as file:
            _check_shape(source, file)
            total = file.metadata.num_rows
            for batch in file.iter_batches(batch_size=_batch_rows(file.metadata), use_threads=False):
                rows = [SourceRow(row + index, values) for index, values in enumerate(batch.to_pylist(), 1)]
                row += len(rows)
                yield RowBatch(rows, row / total)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise source.error(
            f"cannot be read as Parquet after row {row}: {reason}", code="broken_parquet", row=row + 1
        ) from error


def _check_shape(source: SourceFile, file: pq.ParquetFile) -> None:
    names = file.schema_arrow.names
    if len(names) > MAX_COLUMNS or file.metadata.num_columns > MAX_COLUMNS:
        count = max(len(names), file.metadata.num_columns)
        raise source.error(f"must have at most {MAX_COLUMNS} columns, got {count}", code="too_many_columns")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise source.error("the schema has this name more than once", code="duplicate_column", column=repeated[0])
    sizes = [file.metadata.row_group(index).total_byte_size for index in range(file.metadata.num_row_groups)]
    if max(sizes, default=0) > MAX_ROW_GROUP_BYTES or min(sizes, default=0) < 0:
        message = f"a row group must unpack to at most {MAX_ROW_GROUP_BYTES} bytes, got {max(sizes)}"
        raise source.error(message, code="too_large")
    if sum(sizes) > max(1024**3, MAX_INFLATION * source.size_bytes):
        message = f"unpacks from {source.size_bytes} to {sum(sizes)} bytes; at most {MAX_INFLATION} times are read"
        raise source.error(message, code="too_large")


def _batch_rows(metadata: pq.FileMetaData) -> int:
    """Return how many rows hold about one batch of characters, by the average row."""
    total = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    average = max(1, total // max(1, metadata.num_rows))
    return max(1, min(BATCH_ROWS, BATCH_CHARACTERS // average))
