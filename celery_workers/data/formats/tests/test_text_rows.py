from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_workers.contract import UserInputError
from celery_workers.data.formats import FileFormat, detect_file_format, read_rows, text_rows
from celery_workers.data.importing import open_rows
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.rows import SourceFile, SourceRow


def source(folder: Path, name: str, content: str) -> SourceFile:
    path = folder / "stored"
    path.write_bytes(content.encode())
    return SourceFile(path=path, name=name)


def read(file: SourceFile, requested: FileFormat | None = None) -> list[SourceRow]:
    return [row for batch in read_rows(file, detect_file_format(file, requested)) for row in batch.rows]


def test_a_paragraph_is_a_row_numbered_by_its_first_line(tmp_path: Path) -> None:
    rows = read(source(tmp_path, "a.txt", "\nOne,\ntwo.\n \n\nThree.\r\n\r\n  Four"))

    assert [(row.number, row.values) for row in rows] == [
        (2, {"text": "One,\ntwo."}),
        (6, {"text": "Three."}),
        (8, {"text": "  Four"}),
    ]


def test_markdown_keeps_headings_with_their_text_and_code_whole(tmp_path: Path) -> None:
    content = "# Title\n\n## Part\n\nText.\n\n```py\na = 1\n\n# no heading\n\nb = 2\n```\n\n- item\n"

    rows = read(source(tmp_path, "a.md", content))

    assert [row.values["text"] for row in rows] == [
        "# Title\n\n## Part\n\nText.",
        "```py\na = 1\n\n# no heading\n\nb = 2\n```",
        "- item",
    ]


@settings(deadline=None)
@given(content=st.text(st.sampled_from("ab #`\n\t~"), min_size=1, max_size=80))
@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_nothing_but_white_space_is_lost(name: str, content: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    reader = text_rows.read_markdown if name == "a.md" else text_rows.read_text
    file = source(tmp_path_factory.mktemp("text"), name, content)

    texts = [row.values["text"] for batch in reader(file) for row in batch.rows]

    assert "".join("".join(texts).split()) == "".join(content.split())


def test_rows_of_text_are_found_to_be_text(tmp_path: Path) -> None:
    opened = open_rows(source(tmp_path, "a.md", "# A\n\nb\n"))

    assert opened.detected.format is RowFormat.TEXT
    assert [row.values for batch, _ in opened for row in batch] == [{"text": "# A\n\nb"}]


@pytest.mark.parametrize("text", ["[link](x) and\n\nmore", "{curly} prose"])
def test_prose_may_begin_with_a_bracket(text: str, tmp_path: Path) -> None:
    assert detect_file_format(source(tmp_path, "a.md", text)) is FileFormat.MARKDOWN


@pytest.mark.parametrize("content", [[{"text": "a"}], {"text": "a"}])
def test_json_under_the_name_of_a_text_file_is_json(content: object, tmp_path: Path) -> None:
    rows = read(source(tmp_path, "a.txt", json.dumps(content)))

    assert [row.values for row in rows] == [{"text": "a"}]


def test_json_is_text_where_that_is_asked_for(tmp_path: Path) -> None:
    assert [row.values for row in read(source(tmp_path, "a.txt", '{"a": 1}'), FileFormat.TEXT)] == [{"text": '{"a": 1}'}]


@pytest.mark.parametrize("content", ["x" * 300, "x" * 60 + "\n" + "y" * 60, "\n".join(["word"] * 40)])
def test_too_long_paragraphs_are_named_and_the_rest_is_read(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_rows, "MAX_ROW_CHARACTERS", 100)

    rows = read(source(tmp_path, "a.txt", f"one\n\n{content}\n\ntwo\n"))

    assert [row.values for row in rows] == [{"text": "one"}, None, {"text": "two"}]
    problem = rows[1].problem
    assert problem is not None
    assert (problem.code, problem.row_number) == ("row_too_long", 3)
    assert f"got {len(content) + 1}" in problem.message


def test_an_empty_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="the file is empty"):
        read(source(tmp_path, "a.md", " \n\n"))
