"""Every reader with good and bad files."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_workers.contract import UserInputError
from celery_workers.data import rows as row_limits
from celery_workers.data.formats import FileFormat, csv_rows, detect_file_format, json_rows, jsonl_rows, read_rows
from celery_workers.data.importing import open_rows
from celery_workers.data.rows import SourceFile, SourceRow


def read(folder: Path, name: str, content: bytes | str, requested: FileFormat | None = None) -> list[SourceRow]:
    path = folder / "stored"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    source = SourceFile(path=path, name=name)
    return [row for batch in read_rows(source, detect_file_format(source, requested)) for row in batch.rows]


def values(rows: list[SourceRow]) -> list[tuple[int, dict[str, object] | None]]:
    return [(row.number, row.values) for row in rows]


ROWS = [(1, {"prompt": "a", "completion": "b"}), (2, {"prompt": "ü", "completion": "d, e"})]
CSV = 'prompt,completion\na,b\nü,"d, e"\n'
JSONL = '{"prompt": "a", "completion": "b"}\n{"prompt": "ü", "completion": "d, e"}\n'
ARRAY = '[{"prompt": "a", "completion": "b"},\n {"prompt": "ü", "completion": "d, e"}]'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("a.csv", CSV.replace("\n", "\r\n")),
        ("a.csv", CSV.replace("\n", "\r")),
        ("a.csv", CSV.rstrip("\n")),
        ("a.csv", "prompt;completion\na;b\nü;d, e\n"),
        ("a.tsv", "prompt\tcompletion\na\tb\nü\td, e\n"),
        ("a.csv", CSV.encode("utf-8-sig")),
        ("a.csv", CSV.encode("utf-16")),
        ("a.jsonl", JSONL),
        ("a.jsonl", JSONL.replace("\n", "\r\n")),
        ("a.jsonl", JSONL.encode("utf-8-sig")),
        ("a.jsonl", JSONL.encode("utf-16")),
        ("a.json", JSONL),
        ("a.json", ARRAY),
        ("a.json", ARRAY.encode("utf-16")),
        ("a.json", f'{{"version": "1", "tags": ["x"], "data": {ARRAY}, "license": {{"name": "MIT"}}}}'),
        ("a.jsonl", ARRAY),
        ("stored-without-a-name", ARRAY),
        ("stored-without-a-name", CSV),
    ],
)
def test_all_spellings_give_the_same_rows(tmp_path: Path, name: str, content: bytes | str) -> None:
    assert values(read(tmp_path, name, content)) == ROWS


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([row for _, row in ROWS]), tmp_path / "a.parquet")

    assert values(read(tmp_path, "a.parquet", (tmp_path / "a.parquet").read_bytes())) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "code", "message"),
    [
        ("a.csv", "", "empty_file", "a.csv: the file is empty"),
        ("a.json", " \n\t ", "empty_file", "empty"),
        ("a.csv", "\n\n", "empty_file", "empty"),
        ("a.csv", ",,\n1,2,3", "no_header", "header"),
        ("a.csv", ARRAY, "wrong_format", "a.csv: the name says csv, but the content is json"),
        ("a.jsonl", CSV, "wrong_format", "the name says jsonl, but the content is csv"),
        ("a.parquet", CSV, "wrong_format", "the name says parquet, but the content is csv"),
        ("a.csv", b"PK\x03\x04....", "wrong_format", "Excel"),
        ("a.jsonl.gz", b"\x1f\x8b\x08...", "broken_compression", "damaged or ends too early"),
        ("a.jsonl.bz2", b"BZh9...", "wrong_format", "bzip2"),
        ("a.exe", "MZ", "wrong_format", "must end in one of"),
        ("a.csv", b"a,b\n1,\x002\n", "nul_bytes", "NUL"),
        ("a.jsonl", JSONL.encode("utf-16")[2:], "nul_bytes", "UTF-16 without a byte order mark"),
        ("a.csv", "prompt,completion,prompt\na,b,c\n", "duplicate_column", "column 'prompt'"),
        ("a.csv", ",".join(f"c{n}" for n in range(10_000)) + "\n", "too_many_columns", "at most 1000 columns, got 10000"),
        ("a.csv", 'a,b\n1,2\n3,"open\n5,6\n7,8\n', "unclosed_quote", "row 2, line 3"),
        ("a.json", ARRAY[:-20], "ends_in_mid_row", "row 2: the file ends in the middle"),
        ("a.json", ARRAY[:-1], "ends_in_mid_row", "the file ends in the middle"),
        ("a.json", '[{"a": 1}, {"a": }, {"a": 3}]', "broken_json", "row 2: is not JSON: expecting value at character 7"),
        ("a.json", '[{"a": 1} {"a": 2}]', "broken_json", "row 1: expected , or ], got '{'"),
        ("a.json", '[{"a": 1},]', "broken_json", "a comma stands before the end"),
        ("a.json", '[{"a": 1}, 5]', "broken_json", "row 2: a row must be an object, got a number"),
        ("a.json", '[{"a": 1}] x', "broken_json", "after the end"),
        ("a.json", '{"data": [{"a": 1}], "more": [{"a": 2}]}', "several_arrays", "'data' and 'more'"),
        ("a.json", '{\n"data": 5,\n"more": "x"\n}', "no_array", "one such array"),
        ("a.json", "[" * 10_000 + "]" * 10_000, "broken_json", "nested too deeply"),
        ("a.json", '[{"a": ' + "[" * 10_000 + "]" * 10_000 + "}]", "broken_json", "row 1: is nested too deeply"),
        ("a.json", '[{"a": ' + "1" * 5000 + "}]", "broken_json", "row 1: .*digits"),
        ("a.parquet", b"PAR1" + b"\x00" * 100 + b"PAR1", "broken_parquet", "cannot be read as Parquet"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, name: str, content: bytes | str, code: str, message: str) -> None:
    with pytest.raises(UserInputError, match=message) as caught:
        read(tmp_path, name, content)

    assert caught.value.code == code
    assert caught.value.evidence["file"] == name


def test_a_requested_format_must_agree_with_the_content(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="the format says parquet, but the content is csv"):
        read(tmp_path, "a.csv", CSV, FileFormat.PARQUET)


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ('{"prompt": "a", "completion": }', "broken_row", "expecting value at character 31"),
        ('{"prompt": "a', "broken_row", "unterminated string"),
        ("[1]", "broken_row", "a row must be an object, got an array"),
        ("null", "broken_row", "got null"),
        ('{"a": ' + "[" * 10_000 + "]" * 10_000 + "}", "broken_row", "nested too deeply"),
    ],
)
def test_a_broken_line_is_named_and_the_rest_is_read(tmp_path: Path, line: str, code: str, message: str) -> None:
    first, second, _ = JSONL.split("\n")

    rows = read(tmp_path, "a.jsonl", "\n".join([first, "", line, second]))

    assert [row.number for row in rows] == [1, 3, 4]
    problem = rows[1].problem
    assert problem is not None
    assert (problem.row_number, problem.code) == (3, code)
    assert message in problem.message
    assert rows[2].values == ROWS[1][1]


@pytest.mark.parametrize(("depth", "is_read"), [(98, True), (99, True), (100, False), (600, False)])
def test_the_depth_of_a_row_is_limited(tmp_path: Path, depth: int, *, is_read: bool) -> None:
    text = '{"a": ' + "[" * depth + "]" * depth + "}"

    rows = read(tmp_path, "a.jsonl", f"{text}\n{JSONL}")

    assert (rows[0].values is not None) is is_read
    if not is_read:
        assert "at most 100 levels" in rows[0].problem.message
        with pytest.raises(UserInputError, match="row 1: is nested too deeply"):
            read(tmp_path, "a.json", f"[{text}]")


def test_a_line_cut_off_at_the_end_says_so(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.jsonl", JSONL[:-10])

    assert rows[1].problem is not None
    assert "the file may end in mid-row" in rows[1].problem.message


def test_ragged_csv_rows_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", 'a,b\n1,2\n3\n"x\ny",5\n6,7,8\n"q"r,9\n10,11\n12')

    assert [(row.number, row.problem.code if row.problem else row.values) for row in rows] == [
        (1, {"a": "1", "b": "2"}),
        (2, "ragged_row"),
        (3, {"a": "x\ny", "b": "5"}),
        (4, "ragged_row"),
        (5, "broken_row"),
        (6, {"a": "10", "b": "11"}),
        (7, "ragged_row"),
    ]
    assert rows[1].problem.message == "line 3: the header has 2 fields, this row 1"
    assert rows[3].problem.message == "line 6: the header has 2 fields, this row 3"
    assert "mid-row" in rows[6].problem.message


def test_undecodable_bytes_become_replacement_characters(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.jsonl", '{"text": "naïve"}\n'.encode("latin-1"))

    assert rows[0].values == {"text": "na\ufffdve"}


def test_half_surrogates_become_replacement_characters(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.jsonl", '{"text": "\\ud83d", "\\ud83d": ["\\ud83d\\ude00", "ü\\u00e9"]}\n')

    assert rows[0].values == {"text": "\ufffd", "\ufffd": ["😀", "üé"]}


def test_a_line_separator_within_text_does_not_end_the_row(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.jsonl", '{"text": "one\u2028two\x85three"}\n{"text": "b"}\n')

    assert values(rows) == [(1, {"text": "one\u2028two\x85three"}), (2, {"text": "b"})]


def test_one_conversation_in_a_json_file_is_a_row(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}

    assert values(read(tmp_path, "a.json", json.dumps(row))) == [(1, row)]


def test_over_long_lines_are_broken_rows_in_json_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl_rows, "MAX_ROW_CHARACTERS", 50)

    rows = read(tmp_path, "a.jsonl", json.dumps({"text": "x" * 5000}) + '\n{"text": "b"}\n')

    assert rows[0].problem is not None
    assert rows[0].problem.code == "row_too_long"
    assert "got 5013" in rows[0].problem.message
    assert values(rows[1:]) == [(2, {"text": "b"})]


def test_over_long_values_end_the_reading_of_csv_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (csv_rows, json_rows):
        monkeypatch.setattr(module, "MAX_ROW_CHARACTERS", 5000)

    with pytest.raises(UserInputError, match="line 2: a line must be shorter than 5000"):
        read(tmp_path, "a.csv", "text\n" + "x" * 6000)
    with pytest.raises(UserInputError, match="row 2: a value must be shorter than 5000"):
        read(tmp_path, "a.json", json.dumps([{"text": "a"}, {"text": "x" * 3_000_000}]))


def test_wide_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.parquet"
    pq.write_table(pa.table({f"c{number}": [1] for number in range(1001)}), path)

    with pytest.raises(UserInputError, match="at most 1000 columns, got 1001"):
        read(tmp_path, "wide.parquet", path.read_bytes())


def test_truncated_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.parquet"
    pq.write_table(pa.table({"text": [str(number) for number in range(1000)]}), path)

    with pytest.raises(UserInputError, match=r"cut\.parquet, row 1: cannot be read as Parquet"):
        read(tmp_path, "cut.parquet", path.read_bytes()[:-50])


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@settings(deadline=None)
@given(rows=st.lists(st.dictionaries(st.sampled_from("abc"), TEXT | st.integers() | st.none(), min_size=1), min_size=1))
@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_json_rows_survive_any_chunking(
    rows: list[dict[str, object]], chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "_CHUNK_CHARACTERS", chunk)
        array = read(folder, "a.json", json.dumps(rows, ensure_ascii=len(rows) % 2 == 0, indent=len(rows) % 3 or None))
    lines = read(folder, "a.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))

    assert [row.values for row in array] == [row.values for row in lines] == rows


def test_batches_are_bounded_and_tell_how_far_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "{number}"}}\n' for number in range(2500)))

    batches = list(read_rows(SourceFile(path=path, name="a.jsonl"), FileFormat.JSONL))

    assert [len(batch.rows) for batch in batches] == [row_limits.BATCH_ROWS, row_limits.BATCH_ROWS, 500]
    assert batches[-1].fraction == 1.0
    assert sorted(batch.fraction for batch in batches) == [batch.fraction for batch in batches]


def test_a_formula_in_csv_is_kept_as_text_with_a_warning(tmp_path: Path) -> None:
    rows = read(
        tmp_path, "a.csv", 'text,n\n=SUM(A1:A9),1\n"=HYPERLINK(""http://x"")",2\n- a list (of one),3\n=> so,4\n@SUM(1),5\n'
    )

    assert [row.values["text"] for row in rows] == [
        "=SUM(A1:A9)",
        '=HYPERLINK("http://x")',
        "- a list (of one)",
        "=> so",
        "@SUM(1)",
    ]
    assert [row.problem.code if row.problem else None for row in rows] == ["formula", "formula", None, None, "formula"]
    assert rows[0].problem.field == "text"
    assert "'=SUM(A1:A9)'" in rows[0].problem.message


def test_json_with_very_many_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide"
    path.write_text(json.dumps({"text": "a", **{f"c{number}": 1 for number in range(10_000)}}))

    with pytest.raises(UserInputError, match="at most 1000 columns, got 10001"):
        open_rows(SourceFile(path=path, name="a.jsonl"))
