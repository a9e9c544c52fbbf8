from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_workers.contract import UserInputError
from celery_workers.data.formats import FileFormat
from celery_workers.data.importing import open_rows
from celery_workers.data.report_building import ReportBuilder
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.rows import SourceFile


def source(folder: Path, text: str, name: str = "a.jsonl") -> SourceFile:
    path = folder / "stored"
    path.write_text(text)
    return SourceFile(path=path, name=name)


def test_formats_columns_and_rows_are_found_in_one_pass(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "b", "n": number} for number in range(1500)] + [{"prompt": "c", "late": None}]

    opened = open_rows(source(tmp_path, "\n".join(map(json.dumps, rows))))
    canonical = [row for batch, _ in opened for row in batch]

    assert (opened.file_format, opened.detected.format) == (FileFormat.JSONL, RowFormat.PROMPT_COMPLETION)
    assert [row.number for row in canonical] == list(range(1, 1502))
    assert canonical[-1].values == {"prompt": "c", "completion": None}
    assert opened.columns.as_json() == [
        {"name": "prompt", "type": "text"},
        {"name": "completion", "type": "text"},
        {"name": "n", "type": "a number"},
        {"name": "late", "type": "null"},
    ]


def test_an_optional_column_that_appears_late_is_taken(tmp_path: Path) -> None:
    rows = [{"instruction": "a", "output": "b"}] * 1000 + [{"instruction": "a", "output": "b", "input": "late"}]

    *_, last = [row for batch, _ in open_rows(source(tmp_path, "\n".join(map(json.dumps, rows)))) for row in batch]

    assert last.values["input"] == "late"
    assert last.extras == {}


@pytest.mark.parametrize(
    ("text", "name", "code"),
    [
        ("prompt,completion\n", "a.csv", "no_rows"),
        ("[]", "a.json", "no_rows"),
        ('{"prompt": \n"completion"}\nbroken\n', "a.jsonl", "broken_file"),
        ("{}\n{}\n", "a.jsonl", "broken_file"),
        ("frage,antwort\na,b\n", "a.csv", "no_row_format"),
    ],
)
def test_files_without_usable_rows_are_refused_by_name(tmp_path: Path, text: str, name: str, code: str) -> None:
    with pytest.raises(UserInputError) as caught:
        list(open_rows(source(tmp_path, text, name)))

    assert caught.value.code == code
    assert caught.value.evidence["file"] == name


def test_a_hostile_number_of_columns_is_refused(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"text": "a", f"key{number}": 1}) for number in range(1200))

    with pytest.raises(UserInputError, match="at most 1000 columns, got 1001"):
        list(open_rows(source(tmp_path, lines)))


def test_a_parquet_file_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)

    with pytest.raises(UserInputError, match=r"empty\.parquet: the file has no rows"):
        open_rows(SourceFile(path=path, name="empty.parquet"))


PIECES = st.sampled_from(
    ['"', "{", "}", "[", "]", ",", ":", "\n", "\r", "\0", "\ufeff", "null", "1e999", "NaN", "\\ud800", "\\", "messages", "text",
     ";", "\t", "[[", "-", "true", '""', "role", "user", "content", "assistant", '{"text": "a"}', "text\na\n", " "]
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(
    pieces=st.lists(PIECES | st.text(max_size=3), max_size=25),
    name=st.sampled_from(["a.csv", "a.json", "a.jsonl", "a.tsv", "a"]),
)
def test_no_text_whatever_does_more_than_be_refused(
    pieces: list[str], name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "stored"
    path.write_bytes("".join(pieces).encode("utf-8", "surrogatepass"))
    try:
        opened = open_rows(SourceFile(path=path, name=name))
        builder = ReportBuilder(opened.detected)
        for rows, _ in opened:
            for row in rows:
                builder.add(row)
    except UserInputError:
        return

    builder.build().as_document().model_dump_json()
