"""Which rows preprocessing leaves out or keeps together: near duplicates, groups, leaks, evaluation sets, languages."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from celery_workers.agents.tests.preparing import ROWS, compared, pair, sides, table
from celery_workers.contract import Dataset, UserInputError
from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.dataset_folder import DatasetWriter
from celery_workers.data.row_formats import shape_of

SENTENCE = "the quick brown fox jumps over the lazy dog while the old hen looks on and says nothing at all about number"


def near_rows(count: int, *, first: int = 1, **extras: str) -> list[CanonicalRow]:
    return [pair(number, "say it", f"{SENTENCE} {number}", **extras) for number in range(first, first + count)]


def test_near_duplicates_are_left_out_with_pairs_to_review(run) -> None:
    outputs, report, _ = run([*ROWS, *near_rows(5, first=101)], near_dedup=True, eval_fraction=0)

    assert sides(outputs)[0] == list(range(1, 102))
    assert ["near duplicates", 105, 101, 4] in report["tables"][0]["rows"]
    assert "4 nearly repeat another" in report["verdict"]
    pairs = report["data"]["near_duplicates"]
    assert [(item["row"], item["same_as"], item["is_leak"]) for item in pairs] == [
        (number, 101, False) for number in range(102, 106)
    ]
    assert all(0.8 <= item["similarity"] < 1 for item in pairs)
    assert pairs[0]["text"].startswith("say it\nthe quick brown fox")
    assert list(table(report, "Near duplicates, left out")) == [102, 103, 104, 105]


def test_grouped_near_duplicates_stay_on_one_side(run) -> None:
    chance = random.Random(0)
    themes = [" ".join("".join(chance.choices("abcdefgh", k=6)) for _ in range(20)) for _ in range(12)]
    families = [pair(number, "say it", f"{themes[number % 12]} {number}") for number in range(1, 121)]

    outputs, report, _ = run(families, near_dedup="group", eval_fraction=0.5)

    train, held_out = sides(outputs)
    assert sorted(train + held_out) == list(range(1, 121))
    assert {number % 12 for number in train}.isdisjoint({number % 12 for number in held_out})
    assert table(report, "Leakage")["rows of groups of near duplicates, kept on one side"] == [120]


def test_groups_of_a_column_stay_on_one_side_in_any_order(run) -> None:
    rows = [pair(number, f"q{number}", "a", author=f"author {number % 10}") for number in range(1, 101)]

    outputs, _, _ = run(rows, group_column="author", eval_fraction=0.5)
    reordered, _, _ = run(rows[::-1], group_column="author", eval_fraction=0.5)

    train, held_out = sides(outputs)
    assert {number % 10 for number in train}.isdisjoint({number % 10 for number in held_out})
    assert sorted(sides(reordered)[1]) == sorted(held_out)


def test_rows_near_a_named_held_out_row_are_counted_as_leaks(run) -> None:
    rows = [
        *near_rows(3, split="train"),
        *near_rows(1, first=4, split="eval"),
        pair(5, "another", "question", split="train"),
        pair(6, "other", "thing", split="eval"),
        pair(7, "other", "thing", split="train"),
    ]

    outputs, report, _ = run(rows, near_dedup=True, split_column="split")

    assert sides(outputs) == ([5], [4, 6])
    leakage = table(report, "Leakage")
    assert leakage["rows that nearly repeat a held-out row, left out"] == [3]
    assert leakage["rows named for training, held out for their content or group"] == [1]
    assert leakage["contents on both sides of the split"] == [0]
    assert "3 rows named for training nearly repeated one that is held out." in report["verdict"]


@pytest.fixture
def benchmark(tmp_path: Path) -> Dataset:
    """An evaluation set of one question, in another row format than the rows to train on."""
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "say it"}]
    with DatasetWriter(tmp_path / "benchmark", shape_of("chat")) as writer:
        writer.write([CanonicalRow(40, {"messages": [*asked, {"role": "assistant", "content": f"{SENTENCE} 2"}]})])
    return Dataset(path=tmp_path / "benchmark", metadata={"format": "chat"})


def test_rows_that_ask_what_an_evaluation_set_asks_are_left_out(run, benchmark: Dataset) -> None:
    rows = [*ROWS, *near_rows(2, first=101), pair(103, "Say  it", "something else altogether")]

    outputs, report, _ = run(rows, eval_fraction=0, evaluation_sets=[benchmark])

    assert sides(outputs)[0] == list(range(1, 101))
    assert "3 ask what an evaluation set asks" in report["verdict"]
    assert table(report, "Leakage")["rows that ask what an evaluation set asks, left out"] == [3]
    (first, _, last) = report["data"]["contaminated"]
    assert (first["row"], first["evaluation_set"], first["evaluation_row"]) == (101, 1, 40)
    assert (last["row"], last["similarity"], last["text"], last["other_text"]) == (103, 1.0, "Say  it", "say it")


def test_by_row_another_answer_to_the_same_question_stays(run, benchmark: Dataset) -> None:
    rows = [*ROWS, *near_rows(2, first=101), pair(103, "say it", "something else altogether")]

    outputs, report, _ = run(
        rows, eval_fraction=0, evaluation_sets=[benchmark], evaluation_match="row", near_dedup="drop"
    )  # fmt: skip

    assert set(range(101, 104)) & set(sides(outputs)[0]) == {103}
    assert "2 stand in an evaluation set" in report["verdict"]


def test_what_a_preference_asks_is_compared_as_well(run, benchmark: Dataset) -> None:
    rows = [compared(1, "good", "bad"), compared(2, "better", "worse")]
    rows[1].values["prompt"] = [{"role": "user", "content": "say it"}]

    _, report, _ = run(rows, row_format="preference", eval_fraction=0, evaluation_sets=[benchmark])

    assert [item["row"] for item in report["data"]["contaminated"]] == [2]


def test_rows_in_other_languages_and_personal_data_are_counted(run) -> None:
    rows = [
        pair(1, "Where do you live, if I may ask?", "<p>Write to ann@example.com</p>"),
        pair(2, "Wo wohnen Sie, wenn ich fragen darf?", "Ich wohne in der schönen Stadt Berlin."),
    ]

    _, report, _ = run(rows, languages=["en"], mask_personal_data=["email"], strip_html=True, eval_fraction=0)

    assert table(report, "Languages of rows") == {"de": [1], "en": [1]}
    assert table(report, "Personal data masked") == {"email": [1]}
    assert report["data"]["other_language_rows"] == [2]
    assert "[EMAIL]" in "".join(token for token, _ in report["samples"][0]["tokens"])
    assert "ann@" not in json.dumps(report)
    assert "<p>" not in "".join(token for token, _ in report["samples"][0]["tokens"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"group_column": "author"}, "group_column must be a column"),
        ({"group_column": "a", "split_column": "b"}, "group_column must be empty"),
        ({"languages": ["english"]}, "languages must be among"),
        ({"near_dedup": "maybe"}, "near_dedup"),
    ],
)
def test_settings_that_cannot_work_are_refused(run, config: dict, message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        run(ROWS, **config)
