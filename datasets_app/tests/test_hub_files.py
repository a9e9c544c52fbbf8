from __future__ import annotations

import time

import pytest

from datasets_app.hub_files import Choice, HubFile, choose_converted, choose_file, choose_split
from platform_site.common.errors import InvalidInput


def listed(*paths: str) -> list[HubFile]:
    return [HubFile(path=path, size_bytes=1, blob_id="b") for path in paths]


def paths(choice: Choice) -> list[str]:
    return [file.path for file in choice.files]


CARD = {
    "configs": [
        {
            "config_name": "english",
            "data_files": [{"split": "train", "path": "en/train-*"}, {"split": "held", "path": ["en/h.csv"]}],
        },
        {"config_name": "french", "default": True, "data_files": "fr/**/*.jsonl"},
    ]
}
FILES = listed("en/train-0.csv", "en/train-1.csv", "en/h.csv", "fr/a/b/x.jsonl", "fr/x.txt", "README.md", "load.py")


@pytest.mark.parametrize(
    ("subset", "split", "found"),
    [
        ("english", "train", ["en/train-0.csv", "en/train-1.csv"]),
        ("english", "held", ["en/h.csv"]),
        ("", "", ["fr/a/b/x.jsonl"]),
    ],
    ids=["pattern", "list", "default"],
)
def test_the_card_says_what_the_splits_are(subset: str, split: str, found: list[str]) -> None:
    assert paths(choose_split(FILES, CARD, subset=subset, split=split)) == found


@pytest.mark.parametrize(
    ("names", "split", "found"),
    [
        (["data/train-0.parquet", "data/test-0.parquet"], "test", ["data/test-0.parquet"]),
        (["rows_dev.jsonl", "rows_train.jsonl"], "validation", ["rows_dev.jsonl"]),
        (["poems.csv", "README.md", "LICENSE.txt"], "", ["poems.csv"]),
        (["training.jsonl.gz", "trainer_notes.md"], "train", ["training.jsonl.gz"]),
    ],
    ids=["folder", "word", "no_word", "whole_words"],
)
def test_without_a_card_names_say_what_the_splits_are(names: list[str], split: str, found: list[str]) -> None:
    assert paths(choose_split(listed(*names), {}, subset="", split=split)) == found


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["a/train.csv", "b/train.csv"], "choose_file"),
        (["train.csv", "train.jsonl"], "choose_file"),
        (["train.csv", "test.csv"], "choose_split"),
        (["load.py", "weights.pkl", "data.arrow"], "no_data_file"),
    ],
    ids=["folders", "formats", "splits", "none"],
)
def test_what_is_not_clear_is_asked_for(names: list[str], code: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        choose_split(listed(*names), {}, subset="", split="")
    assert refusal.value.error_code == code


@pytest.mark.parametrize(
    "configs",
    [
        None,
        "all",
        [3, None, {}],
        [{"config_name": 3}],
        [{"config_name": "a", "data_files": 3}],
        [{"config_name": "a", "data_files": [{"split": "x", "path": {}}]}],
    ],
    ids=["none", "text", "items", "name", "number", "path"],
)
def test_a_card_of_another_shape_is_passed_over(configs: object) -> None:
    assert paths(choose_split(listed("train.csv"), {"configs": configs}, subset="", split="")) == ["train.csv"]


def test_a_pattern_cannot_make_the_search_run_away() -> None:
    hostile = {"configs": [{"config_name": "a", "data_files": "*a" * 100 + "b.csv"}]}
    started = time.process_time()

    with pytest.raises(InvalidInput):
        choose_split(listed("a" * 200 + ".csv"), hostile, subset="", split="")

    assert time.process_time() - started < 1


def test_what_the_hub_converted_is_told_by_its_folders() -> None:
    files = listed("en/train/0000.parquet", "en/partial-test/0000.parquet", "en/partial-test/0001.parquet", "README.md")

    assert len(choose_converted(files, subset="", split="test").files) == 2


@pytest.mark.parametrize(
    ("path", "code"), [("load.py", "no_data_file"), ("none.csv", "unknown_file")], ids=["script", "absent"]
)
def test_only_a_data_file_can_be_named(path: str, code: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        choose_file(FILES, path)
    assert refusal.value.error_code == code
