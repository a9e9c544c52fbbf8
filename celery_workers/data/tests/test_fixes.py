from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from celery_workers.data.fixes import ACTIONS, Fixed, write_fixed
from celery_workers.data.rows import SourceFile

MAIL = "ada@example.org"


def fix(folder: Path, rows: list[object], codes: list[str], **options: str) -> tuple[list[dict], Fixed]:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return fix_file(path, codes, **options)


def fix_file(path: Path, codes: list[str], **options: str) -> tuple[list[dict], Fixed]:
    target = path.with_name("fixed.jsonl")
    fixed = write_fixed(SourceFile(path=path, name=path.name), target, codes=codes, **options)
    lines = target.read_text().splitlines()
    assert len(lines) == fixed.rows_after
    assert [item.name for item in path.parent.iterdir() if "draft" in item.name] == []
    return [json.loads(line) for line in lines], fixed


def account(fixed: Fixed) -> dict[str, list[int]]:
    assert all(change.rows == len(change.row_numbers) for change in fixed.changes)
    return {change.code: change.row_numbers for change in fixed.changes}


def test_only_what_was_asked_for_is_changed_and_all_of_it_is_counted(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a\x07", "completion": "b", "id": 7},
        {"prompt": "schÃ¶n", "completion": f"mail {MAIL}"},
        {"prompt": "c", "completion": ""},
        {"prompt": "a", "completion": "b"},
    ]

    kept, fixed = fix(tmp_path, rows, ["control_characters", "mojibake", "no_answer", "duplicate_row"])

    assert kept == [{"prompt": "a", "completion": "b", "id": 7}, {"prompt": "schön", "completion": f"mail {MAIL}"}]
    assert account(fixed) == {"no_answer": [3], "mojibake": [2], "control_characters": [1], "duplicate_row": [4]}
    assert (fixed.rows_before, fixed.rows_after) == (4, 2)


def test_personal_data_is_masked_by_kind_in_every_column(tmp_path: Path) -> None:
    rows = [{"prompt": f"{MAIL} 4111 1111 1111 1111", "completion": "b", "meta": {"from": [MAIL]}}]

    kept, fixed = fix(tmp_path, rows, ["email_address"])

    assert kept == [{"prompt": "[EMAIL] 4111 1111 1111 1111", "completion": "b", "meta": {"from": ["[EMAIL]"]}}]
    assert account(fixed) == {"email_address": [1]}


def test_a_text_that_can_be_mended_keeps_its_row(tmp_path: Path) -> None:
    kept, fixed = fix(tmp_path, [{"text": "a\0b"}, {"text": "c\ufffd"}], ["nul_character", "encoding_damage"])

    assert (kept, account(fixed)) == ([{"text": "ab"}], {"encoding_damage": [2], "nul_character": [1]})


def test_leaks_go_from_training_and_evaluation_stays(tmp_path: Path) -> None:
    same = {"prompt": "Two?", "completion": "2"}
    rows = [{**same, "split": "train"}, {**same, "split": "eval"}, {"prompt": "x", "completion": "y", "split": "train"}]

    kept, fixed = fix(tmp_path, rows, ["leaked_row", "duplicate_row"])

    assert [row["split"] for row in kept] == ["eval", "train"]
    assert account(fixed) == {"leaked_row": [1]}


def test_an_unreadable_row_is_left_out_and_counted_whatever_was_asked(tmp_path: Path) -> None:
    kept, fixed = fix(tmp_path, [{"text": "a"}, "broken {", {"text": "b\x07"}], ["control_characters"])

    assert (kept, account(fixed)) == ([{"text": "a"}, {"text": "b"}], {"control_characters": [3], "broken_row": [2]})


def test_a_second_time_there_is_nothing_to_change(tmp_path: Path) -> None:
    rows = [{"prompt": f"{MAIL} schÃ¶n\x07", "completion": "b"}] * 3 + [{"prompt": "", "completion": "c"}]
    kept, _ = fix(tmp_path, rows, list(ACTIONS))

    again, fixed = fix(tmp_path, kept, list(ACTIONS))

    assert (again, fixed.changes) == (kept, [])


def test_conversations_in_a_csv_become_lists_and_are_mended_inside(tmp_path: Path) -> None:
    path = tmp_path / "chat.csv"
    messages = [{"role": "user", "content": "a\x07"}, {"role": "assistant", "content": "b"}]
    quoted = json.dumps(messages).replace('"', '""')
    path.write_text(f'messages,note\n"{quoted}",[1]\n')

    kept, _ = fix_file(path, ["control_characters"])

    assert kept == [{"messages": [{"role": "user", "content": "a"}, messages[1]], "note": "[1]"}]


def test_values_that_json_lacks_are_written_as_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["a\x07"], "score": [float("nan")], "raw": [b"x"]}), path)

    kept, _ = fix_file(path, ["control_characters"])

    assert kept == [{"text": "a", "score": "nan", "raw": "b'x'"}]


def test_a_code_without_a_fix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="identical_answer"):
        fix(tmp_path, [{"text": "a"}], ["identical_answer"])
