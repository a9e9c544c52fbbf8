"""Whatever is offered can be chosen, and the file that is made of it is found to be what was chosen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from celery_workers.contract.errors import UserInputError
from celery_workers.data.formats import FileFormat
from celery_workers.data.importing import open_rows
from celery_workers.data.mapping_choice import Choice, Offer, look, look_at_choice, offers, write_chosen
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.rows import SourceFile

MESSAGES = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
VALUES: dict[str, object] = {
    "messages": MESSAGES, "label": True, "history": [["q", "a"]], "tools": "[]", "chosen": "good", "rejected": "bad",
}  # fmt: skip


def write(folder: Path, rows: list[object]) -> SourceFile:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return SourceFile(path=path, name="rows.jsonl")


def value_of(part: str, offer: Offer) -> object:
    if offer.name == "prompt and completion messages" and part in ("prompt", "completion"):
        return [MESSAGES[part == "completion"]]
    return VALUES.get(part, f"text of {part}")


@pytest.mark.parametrize("offer", offers(), ids=lambda offer: f"{offer.format.value}-{offer.name.replace(' ', '_')}")
def test_every_offer_makes_a_file_that_is_found_to_be_it(tmp_path: Path, offer: Offer) -> None:
    parts = [*offer.required, *offer.optional]
    row = {f"spalte {place}": value_of(part, offer) for place, part in enumerate(parts)} | {"output": "not chosen", "text": "x"}
    source = write(tmp_path, [row, row])
    columns = {part: f"spalte {place}" for place, part in enumerate(parts)}
    choice = Choice(columns=columns, row_format=offer.format)

    looked_at = look_at_choice(source, FileFormat.JSONL, choice, shown_rows=1)
    write_chosen(source, tmp_path / "new", FileFormat.JSONL, choice)

    opened = open_rows(SourceFile(path=tmp_path / "new", name="new.jsonl"))
    assert (opened.detected.format, set(opened.detected.sources)) == (offer.format, set(columns))
    assert [len(rows) for rows, _ in opened] == [2]
    assert looked_at.detected is not None
    assert looked_at.rows[0].messages
    assert [problem for problem in looked_at.rows[0].problems if problem.code != "unused_key"] == []


def test_a_column_that_was_not_chosen_is_kept_but_no_part(tmp_path: Path) -> None:
    source = write(tmp_path, [{"instruction": "a", "input": "b", "output": "c", "source_input": "d"}])
    choice = Choice(columns={"instruction": "instruction", "output": "output"}, row_format=RowFormat.ALPACA)

    write_chosen(source, tmp_path / "new", FileFormat.JSONL, choice)

    assert json.loads((tmp_path / "new").read_text()) == {
        "instruction": "a", "source_input": "b", "output": "c", "source_source_input": "d",
    }  # fmt: skip


def test_row_numbers_and_rows_that_cannot_be_read_stay(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"frage": "a", "antwort": "b"}\n\nnot json\n{"frage": "c", "antwort": "d", "prompt": "late"}\n')
    choice = Choice(columns={"prompt": "frage", "completion": "antwort"}, row_format=RowFormat.PROMPT_COMPLETION)

    write_chosen(SourceFile(path=path, name="rows.jsonl"), tmp_path / "new", FileFormat.JSONL, choice)

    lines = (tmp_path / "new").read_text().splitlines()
    assert len(lines) == 4
    assert isinstance(json.loads(lines[2]), str)
    assert json.loads(lines[3]) == {"prompt": "c", "completion": "d", "source_prompt": "late"}


@pytest.mark.parametrize(
    ("columns", "row_format", "code"),
    [
        ({"prompt": "absent", "completion": "b"}, RowFormat.PROMPT_COMPLETION, "missing_column"),
        ({"promt": "a", "completion": "b"}, RowFormat.PROMPT_COMPLETION, "unknown_column"),
        ({"prompt": "a", "completion": "a"}, RowFormat.PROMPT_COMPLETION, "column_twice"),
        ({"prompt": "a", "completion": "b"}, RowFormat.ALPACA, "other_row_format"),
        ({"text": "a", "prompt": "b"}, RowFormat.TEXT, "other_row_format"),
        ({"messages": "a", "label": "b"}, RowFormat.KTO, "other_row_format"),
    ],
)
def test_a_choice_that_does_not_fit_is_refused(tmp_path: Path, columns: dict[str, str], row_format: str, code: str) -> None:
    source = write(tmp_path, [{"a": "x", "b": "y"}])

    with pytest.raises(UserInputError) as refusal:
        look_at_choice(source, FileFormat.JSONL, Choice(columns=columns, row_format=RowFormat(row_format)), shown_rows=1)

    assert (refusal.value.code, refusal.value.field) == (code, "columns")


def test_what_is_of_no_format_is_shown_with_the_reason(tmp_path: Path) -> None:
    looked_at = look(write(tmp_path, [{"a": "x", "b": 1}]), FileFormat.JSONL, shown_rows=5)

    assert looked_at.detected is None
    assert looked_at.refusal is not None
    assert looked_at.refusal.code == "no_row_format"
    assert looked_at.columns == [{"name": "a", "type": "text"}, {"name": "b", "type": "a number"}]
    assert looked_at.raw == [{"row_number": 1, "values": {"a": "x", "b": 1}}]


def test_both_answers_of_a_preference_are_shown(tmp_path: Path) -> None:
    looked_at = look(write(tmp_path, [{"prompt": "q", "chosen": "good", "rejected": "bad"}]), FileFormat.JSONL, shown_rows=5)

    assert [(message["role"], message["content"]) for message in looked_at.rows[0].messages] == [
        ("user", "q"), ("chosen", "good"), ("rejected", "bad"),
    ]  # fmt: skip
