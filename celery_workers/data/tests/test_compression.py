from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from celery_workers.contract import UserInputError
from celery_workers.data import compression
from celery_workers.data.formats import FileFormat, detect_file_format, read_rows
from celery_workers.data.rows import SourceFile

ROWS = [{"prompt": "a", "completion": "b"}, {"prompt": "ü", "completion": "d, e"}]
CSV = 'prompt,completion\na,b\nü,"d, e"\n'


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


CONTENTS = {
    "a.csv": CSV.encode(),
    "a.tsv": b"prompt\tcompletion\na\tb\n\xc3\xbc\td, e\n",
    "a.json": json.dumps(ROWS).encode(),
    "a.jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
    "b.jsonl": "\n".join(map(json.dumps, ROWS)).encode("utf-16"),
    "a.parquet": parquet(),
}


def pack(content: bytes, ending: str) -> bytes:
    return gzip.compress(content) if ending == "gz" else pa.Codec("zstd").compress(content, asbytes=True)


def source(folder: Path, name: str, content: bytes) -> SourceFile:
    path = folder / "stored"
    path.write_bytes(content)
    return SourceFile(path=path, name=name)


def read(file: SourceFile) -> list[dict[str, object] | None]:
    return [row.values for batch in read_rows(file, detect_file_format(file)) for row in batch.rows]


@pytest.mark.parametrize("ending", ["gz", "zst"])
@pytest.mark.parametrize("name", CONTENTS)
def test_every_format_is_read_compressed(name: str, ending: str, tmp_path: Path) -> None:
    file = source(tmp_path, f"{name}.{ending}", pack(CONTENTS[name], ending))

    assert read(file) == ROWS


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_the_content_tells_not_the_name(ending: str, tmp_path: Path) -> None:
    assert read(source(tmp_path, "stored", pack(CONTENTS["a.jsonl"], ending))) == ROWS


def test_several_compressed_parts_are_one_file(tmp_path: Path) -> None:
    head, rest = CONTENTS["a.jsonl"][:20], CONTENTS["a.jsonl"][20:]

    assert read(source(tmp_path, "a.jsonl.gz", gzip.compress(head) + gzip.compress(rest))) == ROWS


@pytest.mark.parametrize("ending", ["gz", "zst"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_bomb_is_refused_without_being_unpacked(name: str, ending: str, tmp_path: Path) -> None:
    content = b"PAR1" if name == "a.parquet" else b'{"text": "a"}\n'
    bomb = pack(content * (200 * 1024 * 1024 // len(content)), ending)
    assert len(bomb) < 1_000_000

    with pytest.raises(UserInputError, match="at most 250 times are read") as caught:
        read(source(tmp_path, f"{name}.{ending}", bomb))

    assert caught.value.code == "too_large"
    assert caught.value.evidence["file"] == f"{name}.{ending}"


def test_there_is_an_absolute_limit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MAX_UNPACKED_BYTES", 1000)

    with pytest.raises(UserInputError, match="at most 1000 bytes"):
        read(source(tmp_path, "a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 1000)))


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_file_that_ends_too_early_is_refused(ending: str, tmp_path: Path) -> None:
    whole = pack("".join(f'{{"text": "{number * 7919}"}}\n' for number in range(200_000)).encode(), ending)

    with pytest.raises(UserInputError, match="damaged or ends too early") as caught:
        read(source(tmp_path, f"a.jsonl.{ending}", whole[: len(whole) // 2]))

    assert caught.value.code == "broken_compression"


def test_what_is_compressed_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="gzip-compressed twice"):
        read(source(tmp_path, "a.jsonl.gz", gzip.compress(gzip.compress(CONTENTS["a.jsonl"]))))


def test_progress_goes_by_the_file(tmp_path: Path) -> None:
    content = "".join(f'{{"text": "{number * 7919}"}}\n' for number in range(300_000)).encode()
    file = source(tmp_path, "a.jsonl.gz", gzip.compress(content))

    fractions = [batch.fraction for batch in read_rows(file, FileFormat.JSONL)]

    assert fractions == sorted(fractions)
    assert 0 < fractions[len(fractions) // 2] < 1 == fractions[-1]
