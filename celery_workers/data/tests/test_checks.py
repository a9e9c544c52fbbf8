from __future__ import annotations

import pytest

from celery_workers.data.canonical import to_canonical
from celery_workers.data.checks import check_row, is_fit
from celery_workers.data.row_formats import detect_row_format
from celery_workers.data.rows import CODES, Severity, SourceRow, broken


def problems(columns: dict[str, object], names: list[str] | None = None, **options: int) -> list[tuple[str, str]]:
    detected = detect_row_format(names or list(columns))
    row = to_canonical(SourceRow(7, columns), detected)
    found = check_row(row, detected.shape, **options)
    assert all(problem.row_number == 7 and problem.message and problem.suggestion for problem in found)
    return [(problem.code, problem.field) for problem in found]


def chat(*messages: tuple[object, object]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in messages]}


GOOD_CHAT = (("system", ""), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))


@pytest.mark.parametrize(
    "columns",
    [
        {"instruction": "a", "output": "b"},
        {"instruction": "a", "input": None, "output": "b", "system": None, "id": 5},
        {"prompt": "a", "completion": "Naïve Größe\n\tعربى 😀👩‍👩‍👧"},
        {"text": "x"},
        chat(*GOOD_CHAT),
    ],
)
def test_good_rows_have_no_problem(columns: dict[str, object]) -> None:
    assert problems(columns) == []


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"instruction": None, "output": "b"}, [("missing_field", "instruction")]),
        ({"instruction": " \n", "output": "b"}, [("empty_field", "instruction")]),
        ({"instruction": "a", "output": ""}, [("no_answer", "output")]),
        ({"instruction": 5, "output": ["b"]}, [("wrong_type", "instruction"), ("wrong_type", "output")]),
        ({"prompt": "a", "completion": "\t"}, [("no_answer", "completion")]),
        ({"text": ""}, [("empty_field", "text")]),
        ({"text": "a\x00b"}, [("nul_character", "text")]),
        ({"text": "a\x07b"}, [("control_characters", "text")]),
        ({"text": "a\ufffdb"}, [("encoding_damage", "text")]),
        ({"text": "schÃ¶n, das FrÃ¼hstÃ¼ck"}, [("mojibake", "text")]),
        ({"messages": None}, [("missing_field", "messages")]),
        ({"messages": 5}, [("wrong_type", "messages")]),
        ({"messages": "not JSON"}, [("wrong_type", "messages")]),
        ({"messages": []}, [("no_answer", "messages")]),
        (chat(("user", "a")), [("no_answer", "messages")]),
        (chat(("user", "a"), ("assistant", "b"), ("user", "c")), [("no_answer", "messages")]),
        (chat(("user", "a"), ("assistant", " ")), [("no_answer", "messages[1].content")]),
        (chat(("user", ""), ("assistant", "b")), [("empty_field", "messages[0].content")]),
        (chat(("user", None), ("assistant", "b")), [("missing_field", "messages[0].content")]),
        (chat(("user", ["part"]), ("assistant", "b")), [("wrong_type", "messages[0].content")]),
        (chat(("assistant", "b")), [("role_order", "messages[0].role")]),
        (chat(("user", "a"), ("user", "b"), ("assistant", "c")), [("role_order", "messages[1].role")]),
        (chat(("user", "a"), ("system", "b"), ("assistant", "c")), [("role_order", "messages[1].role")]),
        (chat(("narrator", "a"), ("assistant", "c")), [("role_order", "messages[0].role")]),
        (chat((None, "a"), ("assistant", "c")), [("missing_field", "messages[0].role")]),
        ({"messages": [{"role": "user", "content": "a", "mood": "x"}, *chat(("assistant", "b"))["messages"]]},
         [("unused_key", "messages[0]")]),
    ],
)  # fmt: skip
def test_each_problem_is_named_with_its_field(columns: dict[str, object], expected: list[tuple[str, str]]) -> None:
    assert problems(columns) == expected


def test_an_item_that_is_no_message_is_named() -> None:
    assert ("wrong_type", "messages[0]") in problems({"messages": ["hello", *chat(("assistant", "b"))["messages"]]})


def test_a_conversation_may_stand_as_json_in_a_csv_field() -> None:
    assert problems({"messages": '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'}) == []


def test_an_absent_field_is_missing() -> None:
    assert problems({"prompt": "a"}, ["prompt", "completion"]) == [("missing_field", "completion")]


def test_a_long_row_is_a_warning() -> None:
    assert problems({"text": "x" * 11}, max_characters=10) == [("too_long", "row")]
    assert CODES["too_long"].severity is Severity.WARNING


def test_a_broken_row_has_only_its_own_problem() -> None:
    detected = detect_row_format(["text"])

    found = check_row(to_canonical(broken(3, "is not JSON"), detected), detected.shape)

    assert [(problem.row_number, problem.code) for problem in found] == [(3, "broken_row")]
    assert not is_fit(found)


def test_numbers_are_not_converted_but_the_fix_shows_how() -> None:
    detected = detect_row_format(["prompt", "completion"])
    row = to_canonical(SourceRow(1, {"prompt": "2 + 2", "completion": 4}), detected)

    (problem,) = check_row(row, detected.shape)

    assert problem.message == "completion must be text, got a number"
    assert problem.suggestion == 'Write it as text: "4".'


def test_further_columns_are_kept_as_text_under_names_that_do_not_collide() -> None:
    detected = detect_row_format(["prompt", "completion", "question"], mapping={"prompt": "question"})
    source = {"question": "q", "completion": "c", "prompt": "old", "row_number": 9, "tags": ["ü"], "split": "eval"}

    row = to_canonical(SourceRow(1, source), detected)

    assert row.values == {"prompt": "q", "completion": "c"}
    assert row.extras == {"source_prompt": "old", "source_row_number": "9", "tags": '["ü"]', "split": "eval"}
