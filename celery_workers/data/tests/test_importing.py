from __future__ import annotations

import json
from pathlib import Path

import pytest

from celery_workers.contract import UserInputError
from celery_workers.data.formats import FileFormat
from celery_workers.data.importing import open_rows, scan_columns
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
        ("question,answer\na,b\n", "a.csv", "no_row_format"),
    ],
)
def test_files_without_usable_rows_are_refused_by_name(tmp_path: Path, text: str, name: str, code: str) -> None:
    with pytest.raises(UserInputError) as caught:
        list(open_rows(source(tmp_path, text, name)))

    assert caught.value.code == code
    assert caught.value.evidence["file"] == name


def test_scanned_columns_are_complete(tmp_path: Path) -> None:
    rows = [{"text": "a"}] * 1500 + [{"text": "b", "late": 1}]

    assert scan_columns(source(tmp_path, "\n".join(map(json.dumps, rows))), FileFormat.JSONL) == ["text", "late"]


def test_a_hostile_number_of_columns_is_refused(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"text": "a", f"key{number}": 1}) for number in range(1200))

    with pytest.raises(UserInputError, match="at most 1000 columns, got 1001"):
        list(open_rows(source(tmp_path, lines)))
