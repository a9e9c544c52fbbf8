"""Lines that msgspec refuses or reads otherwise than Python must come out the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_workers.data.formats.jsonl_rows import read_jsonl
from celery_workers.data.rows import SourceFile, SourceRow


def read(folder: Path, content: bytes) -> list[SourceRow]:
    path = folder / "stored"
    path.write_bytes(content)
    return [row for batch in read_jsonl(SourceFile(path=path, name="a.jsonl")) for row in batch.rows]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[]), max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=10,
)


@settings(deadline=None, max_examples=200)
@given(row=st.dictionaries(st.text(max_size=5), VALUES, max_size=4), is_ascii=st.booleans())
def test_any_row_is_read_as_python_reads_it(
    row: dict[str, object], tmp_path_factory: pytest.TempPathFactory, *, is_ascii: bool
) -> None:
    line = json.dumps(row, ensure_ascii=is_ascii).encode("utf-8", "replace")

    (found,) = read(tmp_path_factory.mktemp("jsonl"), line)

    # Half characters become replacements, which another test looks at.
    whole = json.dumps(json.loads(line), ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert json.dumps(found.values, ensure_ascii=False) == whole


@pytest.mark.parametrize(
    ("line", "values"),
    [
        (b'{"id": 123456789012345678901234567890}', {"id": 123456789012345678901234567890}),
        (b'{"a": Infinity}', {"a": float("inf")}),
        (b'{"a": "na\xefve"}', {"a": "na\ufffdve"}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
    ],
)
def test_unusual_lines_are_read(line: bytes, values: dict[str, object], tmp_path: Path) -> None:
    assert [row.values for row in read(tmp_path, line + b"\n")] == [values]


def test_mixed_encodings_damage_only_their_own_rows(tmp_path: Path) -> None:
    good, bad = '{"text": "schön"}\n'.encode(), '{"text": "schön"}\n'.encode("latin-1")

    assert [row.values for row in read(tmp_path, good + bad + good)] == [
        {"text": "schön"},
        {"text": "sch\ufffdn"},
        {"text": "schön"},
    ]


def test_old_line_ends_part_rows(tmp_path: Path) -> None:
    assert [(row.number, row.values) for row in read(tmp_path, b'{"a": 1}\r{"a": 2}\r')] == [(1, {"a": 1}), (2, {"a": 2})]


_READ_LONG_LINE = """
import resource, sys
from pathlib import Path
from celery_workers.data.formats import FileFormat, read_rows
from celery_workers.data.rows import SourceFile
source = SourceFile(path=Path(sys.argv[1]), name="a")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = [row for batch in read_rows(source, FileFormat(sys.argv[2])) for row in batch.rows]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(rows), rows[0].problem.code, rows[-1].values)
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="ru_maxrss is in kilobytes on Linux only")
@pytest.mark.parametrize(("file_format", "last"), [("jsonl", '{"text": "b"}'), ("text", "b")])
def test_a_line_of_any_length_takes_bounded_memory(file_format: str, last: str, tmp_path: Path) -> None:
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(400):
            file.write(b"x" * 1_000_000)
        file.write(f'"}}\n\n{last}\n'.encode())

    done = subprocess.run(
        [sys.executable, "-c", _READ_LONG_LINE, str(path), file_format], capture_output=True, text=True, check=True
    )

    grown_kilobytes, count, code, values = done.stdout.split(maxsplit=3)
    assert (count, code) == ("2", "row_too_long")
    assert values.strip() == "{'text': 'b'}"
    assert int(grown_kilobytes) < 200_000
