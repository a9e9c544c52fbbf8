"""Files that nobody means well with, from end to end as an upload takes them: named errors, in bounded memory and time."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from celery_workers.contract import UserInputError
from celery_workers.data.importing import open_rows
from celery_workers.data.report_building import ReportBuilder
from celery_workers.data.rows import SourceFile
from celery_workers.data.validation_report import ValidationReport

MEGABYTE = 1024**2
GOOD = '{"text": "a good row"}\n'


def check(path: Path, name: str) -> ValidationReport:
    opened = open_rows(SourceFile(path=path, name=name))
    builder = ReportBuilder(opened.detected)
    for block, _ in opened.blocks():
        builder.add_block(block)
    return builder.build()


def stored(folder: Path, content: bytes | str) -> Path:
    path = folder / "stored"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def numbers(report: ValidationReport) -> dict[str, list[int]]:
    return {count.code: count.row_numbers for count in report.counts}


_CHECK_IN_A_PROCESS = """
import resource, sys
from pathlib import Path
from celery_workers.contract import UserInputError
from celery_workers.data.tests.test_hostile_files import check, numbers
check(Path(sys.argv[3]), "warm.jsonl")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    said = numbers(check(Path(sys.argv[1]), sys.argv[2]))
except UserInputError as error:
    said = f"{error.code}: {error.message}"
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, said)
"""


def check_in_a_process(path: Path, name: str) -> tuple[int, str]:
    """Return by how many kilobytes memory grew beyond that of a small file, and what was said."""
    warm = path.with_name("warm")
    warm.write_text(GOOD * 100)
    command = [sys.executable, "-c", _CHECK_IN_A_PROCESS, str(path), name, str(warm)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    grown, _, said = done.stdout.strip().partition(" ")
    return int(grown), said


def write_long_line(path: Path, before: str, size_bytes: int, after: str) -> None:
    """Write a line so long, all but its beginning a hole in the file, which reads as NUL characters."""
    with path.open("wb") as file:
        file.write(before.encode() + b"x" * 20 * MEGABYTE)
        file.truncate(size_bytes)
        file.seek(0, 2)
        file.write(after.encode())


LONG_LINES = [
    ("a.jsonl", f'{GOOD}{{"text": "', f'"}}\n{GOOD}', "{'row_too_long': [2], 'duplicate_row': [3]}"),
    ("a.csv", 'text\na good row\n"', '"\n', "row_too_long: a.csv, line 3: a line must be shorter than 8388608 characters"),
    ("a.json", f'[{GOOD.strip()}, {{"text": "', '"}]', "row_too_long: a.json, row 2: a value must be shorter than 8388608"),
    ("a.txt", "a good row\n\n", "\n\na good row\n", "{'row_too_long': [3], 'duplicate_row': [5]}"),
]


@pytest.mark.skipif(sys.platform == "darwin", reason="ru_maxrss is in kilobytes on Linux only")
@pytest.mark.parametrize("megabytes", [64, pytest.param(1024, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "before", "after", "expected"), LONG_LINES, ids=[name for name, *_ in LONG_LINES])
def test_a_line_of_any_length_is_named_in_bounded_memory(
    name: str, before: str, after: str, expected: str, megabytes: int, tmp_path: Path
) -> None:
    write_long_line(tmp_path / "long", before, megabytes * MEGABYTE, after)

    grown_kilobytes, said = check_in_a_process(tmp_path / "long", name)

    assert said.startswith(expected)
    assert grown_kilobytes < 250_000


def test_what_is_nested_ten_thousand_deep_is_named(tmp_path: Path) -> None:
    deep = "[" * 10_000 + "]" * 10_000
    lines = stored(tmp_path, f'{GOOD}{{"text": "b", "more": {deep}}}\n{{"text": {deep}}}\n{GOOD}')

    assert numbers(check(lines, "a.jsonl")) == {"broken_row": [2, 3], "duplicate_row": [4]}
    with pytest.raises(UserInputError, match="row 2: is nested too deeply"):
        check(stored(tmp_path, f'[{GOOD}, {{"text": {deep}}}]'), "a.json")


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("a.jsonl", '{"text": "', '"}\n'), ("a.csv", "", "\n"), ("a.txt", "", "\n\n")],
)
def test_mixed_encodings_damage_the_rows_that_are_not_utf_8(name: str, before: str, after: str, tmp_path: Path) -> None:
    header = b"text\n" if name == "a.csv" else b""
    rows = [
        f"{before}{text}{after}".encode(encoding)
        for text, encoding in (("schön", "utf-8"), ("übel", "latin-1"), ("öd", "utf-8"))
    ]

    report = check(stored(tmp_path, header + b"".join(rows)), name)

    assert [problem.code for problem in report.problems] == ["encoding_damage"]
    assert (report.rows, report.fit_rows) == (3, 2)


def test_a_csv_row_of_ten_thousand_fields_is_named(tmp_path: Path) -> None:
    path = stored(tmp_path, "text,n\na,1\n" + ",".join("x" * 10_000) + "\nb,2\n")

    assert numbers(check(path, "a.csv")) == {"ragged_row": [2]}


def test_nul_characters_far_down_are_named(tmp_path: Path) -> None:
    many = [f"row number {number}" for number in range(20_000)]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in [*many, "a\0b"])
    raw = lines + '{"text": "a\0b"}\n'
    table = "text\n" + "".join(f"{text}\n" for text in [*many, "a\0b"])

    assert numbers(check(stored(tmp_path, raw), "a.jsonl")) == {"nul_character": [20_001], "broken_row": [20_002]}
    assert numbers(check(stored(tmp_path, table), "a.csv")) == {"nul_character": [20_001]}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", f'{GOOD}{{"text": "cut o', {"broken_row": [2]}),
        ("a.csv", "text,n\na,1\nb", {"ragged_row": [2]}),
        ("a.txt", "whole\n\ncut o", {}),
    ],
)
def test_a_file_that_ends_in_mid_row_keeps_the_rows_before(
    name: str, content: str, expected: dict[str, list[int]], tmp_path: Path
) -> None:
    assert numbers(check(stored(tmp_path, content), name)) == expected


def parquet(folder: Path, table: pa.Table, **options: object) -> Path:
    path = folder / "stored"
    pq.write_table(table, path, **options)
    return path


def test_parquet_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    kind, value = pa.string(), "x"
    for _ in range(60):
        kind, value = pa.list_(kind), [value]

    with pytest.raises(UserInputError, match=r"a\.parquet, row 1: cannot be read as Parquet after row 0: .*deeply nested"):
        check(parquet(tmp_path, pa.table({"text": ["a"], "deep": pa.array([value], kind)})), "a.parquet")


def test_parquet_of_thousands_of_columns_is_refused(tmp_path: Path) -> None:
    wide = pa.table({"text": ["a"], "all": pa.array([{f"c{number}": 1 for number in range(5000)}])})

    with pytest.raises(UserInputError, match="must have at most 1000 columns, got 5001"):
        check(parquet(tmp_path, wide), "a.parquet")


def test_damaged_parquet_is_refused_or_read_and_never_more(tmp_path: Path) -> None:
    draw = random.Random(0)
    table = pa.table({"text": [f"row {number}" for number in range(500)], "n": list(range(500))})
    whole = parquet(tmp_path, table, row_group_size=100, compression="zstd").read_bytes()
    named = []
    for attempt in range(150):
        content = bytearray(whole)
        footer = attempt % 2 * (len(whole) - 1500)  # every second time in the footer: row counts, sizes and offsets
        for _ in range(draw.randint(1, 4)):
            content[draw.randint(max(4, footer), len(content) - 9)] = draw.randint(0, 255)
        try:
            check(stored(tmp_path, bytes(content)), "a.parquet")
        except UserInputError as error:
            named.append(error.evidence["file"])

    assert named == ["a.parquet"] * len(named)
    assert len(named) > 50
