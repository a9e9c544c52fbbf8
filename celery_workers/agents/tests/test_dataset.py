from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from celery_workers.agents.dataset import DatasetAgent
from celery_workers.contract import Canceled, UserInputError
from celery_workers.contract.agent import describe
from celery_workers.contract.testing import RecordingContext, check_agent, run_agent

REFERENCE = "s3://datasets/training_data.csv"


def run(
    tmp_path: Path, content: str, *, name: str = "training_data.csv", **config: object
) -> tuple[list[dict], dict, RecordingContext]:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    workdir = tmp_path / "work"
    workdir.mkdir()
    context = RecordingContext(workdir=workdir, references={REFERENCE: path})
    outputs = run_agent(DatasetAgent, {"file_path": REFERENCE, **config}, context=context)
    rows = pq.read_table(outputs.dataset.path / "rows.parquet").to_pylist()
    return rows, outputs.dataset.metadata, context


def test_it_keeps_the_contract() -> None:
    check_agent(describe(DatasetAgent, name="dataset"))


def test_a_csv_becomes_canonical_rows(tmp_path: Path) -> None:
    rows, metadata, context = run(tmp_path, "instruction,output,split\nAdd.,5,train\nSay hi.,Hi,eval\n", format="csv")

    empty = {"input": None, "system": None, "problems": []}
    assert rows == [
        {"row_number": 1, "instruction": "Add.", "output": "5", "split": "train", **empty},
        {"row_number": 2, "instruction": "Say hi.", "output": "Hi", "split": "eval", **empty},
    ]
    assert (metadata["format"], metadata["rows"], metadata["file_format"]) == ("alpaca", 2, "csv")
    assert context.logs[0].message == "Found alpaca: columns instruction, output. Kept, but not trained on: 'split'."
    assert context.fractions[-1] == 1.0


def test_no_row_is_lost_and_problems_travel_along(tmp_path: Path) -> None:
    lines = ['{"prompt": "a", "completion": 5}', "broken", "", '{"prompt": "b", "completion": "c", "late": [1]}']

    rows, metadata, context = run(tmp_path, "\n".join(lines), name="data.jsonl")

    assert [(row["row_number"], row["prompt"], row["completion"], row["late"]) for row in rows] == [
        (1, "a", None, None), (2, None, None, None), (4, "b", "c", "[1]"),
    ]  # fmt: skip
    assert [[problem["code"] for problem in row["problems"]] for row in rows] == [["wrong_type"], ["broken_row"], []]
    assert metadata["rows_with_read_problems"] == 2
    assert any(log.level == "WARNING" and log.message.startswith("2 of 3 rows") for log in context.logs)


def test_a_mapping_and_an_explicit_format_are_followed(tmp_path: Path) -> None:
    columns = {"prompt": "question", "completion": "answer"}

    rows, metadata, _ = run(tmp_path, "question,answer,text\na,b,c\n", columns=columns, row_format="prompt_completion")

    assert metadata["format"] == "prompt_completion"
    assert (rows[0]["prompt"], rows[0]["completion"], rows[0]["text"]) == ("a", "b", "c")


def test_conversations_are_kept_message_by_message(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]

    rows, metadata, _ = run(tmp_path, json.dumps([{"messages": messages}]), name="chat.json")

    said = [{key: value for key, value in message.items() if value is not None} for message in rows[0]["messages"]]
    assert (metadata["format"], said) == ("chat", messages)


def test_the_limit_stops_and_says_so(tmp_path: Path) -> None:
    rows, metadata, context = run(tmp_path, "text\n" + "x\n" * 50, limit=7)

    assert (len(rows), metadata["rows"]) == (7, 7)
    assert any("first 7 rows" in log.message for log in context.logs)


@pytest.mark.parametrize(
    ("content", "config", "code"),
    [
        ("", {}, "empty_file"),
        ("frage,antwort\na,b\n", {}, "no_row_format"),
        ("text\na\n", {"format": "parquet"}, "wrong_format"),
        ("text\na\n", {"columns": {"text": "body"}}, "missing_column"),
    ],
)
def test_an_unusable_file_ends_the_node_with_its_name(tmp_path: Path, content: str, config: dict, code: str) -> None:
    with pytest.raises(UserInputError) as caught:
        run(tmp_path, content, **config)

    assert caught.value.code == code


def test_what_is_not_there_yet_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="encoding"):
        run(tmp_path, "text\na\n", encoding="latin-1")


def test_a_cancel_stops_it_between_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "x\n" * 5000)
    workdir = tmp_path / "work"
    workdir.mkdir()
    context = RecordingContext(workdir=workdir, references={REFERENCE: path}, cancel_after_checks=2)

    with pytest.raises(Canceled):
        run_agent(DatasetAgent, {"file_path": REFERENCE}, context=context)

    assert not (workdir / "dataset" / "rows.parquet").exists()
