"""Parquet beyond what all formats share: files made to unpack to far more than they are."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from celery_workers.contract import UserInputError
from celery_workers.data.formats.parquet_rows import read_parquet
from celery_workers.data.rows import BATCH_CHARACTERS, SourceFile

CONVERSATION = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def write(path: Path, table: pa.Table) -> SourceFile:
    pq.write_table(table, path, compression="zstd", use_dictionary=True, dictionary_pagesize_limit=1024**3)
    return SourceFile(path=path, name=path.name)


def repeated(value: object, count: int, kind: pa.DataType) -> pa.Array:
    return pa.array([value], kind).take(pa.array([0] * count)) if pa.types.is_nested(kind) else pa.DictionaryArray.from_arrays(
        pa.array([0] * count, pa.int32()), pa.array([value], kind)
    )  # fmt: skip


def test_a_small_file_that_repeats_a_huge_text_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    source = write(tmp_path / "bomb.parquet", pa.table({"text": repeated("x" * 20_000_000, 50_000, pa.string())}))
    assert source.size_bytes < 100_000

    with pytest.raises(UserInputError, match=r"bomb\.parquet, row 1: a row must unpack to at most") as caught:
        list(read_parquet(source))

    assert caught.value.code == "row_too_long"


@pytest.mark.parametrize("kind", ["text", "conversation"])
def test_repetitions_are_unpacked_a_few_at_a_time(tmp_path: Path, kind: str) -> None:
    text = "x" * 1_000_000
    if kind == "text":
        column = repeated(text, 300, pa.string())
    else:
        column = pa.array([[{"role": "user", "content": text}]] * 300, CONVERSATION)
    source = write(tmp_path / "a.parquet", pa.table({"column": column}))

    sizes, numbers = [], []
    for batch in read_parquet(source):
        sizes.append(sum(len(str(row.values)) for row in batch.rows))
        numbers += [row.number for row in batch.rows]

    assert numbers == list(range(1, 301))
    assert max(sizes) < BATCH_CHARACTERS * 1.1


def test_every_type_of_column_comes_through(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "none": None, "number": 1, "part": 0.5, "flag": True, "raw": b"\x00", "tags": ["x", None], "empty": [],
         "deep": {"a": [{"b": "c"}]}},
        {"text": None, "none": None, "number": None, "part": None, "flag": None, "raw": None, "tags": None, "empty": None,
         "deep": None},
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows).append_column("map", pa.array([[("k", "v")], None], pa.map_(pa.string(), pa.string())))

    (batch,) = read_parquet(write(tmp_path / "a.parquet", table))

    assert [row.values for row in batch.rows] == [{**rows[0], "map": [("k", "v")]}, {**rows[1], "map": None}]
