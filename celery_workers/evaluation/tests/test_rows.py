"""Prompts, references, stop tokens and batches."""

from __future__ import annotations

from pathlib import Path

import pytest

from celery_workers.contract.errors import UserInputError
from celery_workers.data.examples_file import ExamplesWriter
from celery_workers.data.examples_schema import ExamplesKind
from celery_workers.evaluation.rows import length_sorted_batches, read_rows, split_row, stop_token_ids


def test_prompt_ends_where_the_first_supervised_segment_begins() -> None:
    row = split_row(row_number=3, input_ids=[5, 6, 7, 8, 9, 10], labels=[-100, -100, 7, 8, -100, 10])

    assert row.prompt_ids == [5, 6]
    assert row.reference_ids == [7, 8]
    assert row.supervised_tokens == 3


def test_a_row_without_prompt_asks_nothing() -> None:
    row = split_row(row_number=1, input_ids=[5, 6], labels=[5, 6])

    assert not row.has_question
    assert row.supervised_tokens == 1  # nothing precedes the first token


def test_ids_and_labels_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="row 4 has 2 input ids but 1 labels"):
        split_row(row_number=4, input_ids=[1, 2], labels=[1])


def test_special_tokens_of_the_references_stop_an_answer() -> None:
    rows = [split_row(row_number=1, input_ids=[9, 5, 2, 9], labels=[-100, 5, 2, -100])]

    assert stop_token_ids(rows, eos_token_ids=[0], special_token_ids=[0, 2, 9]) == {0, 2}


def test_batches_hold_every_row_once_within_both_limits() -> None:
    lengths = [3, 10, 1, 7, 7, 2, 30]

    batches = length_sorted_batches(lengths, max_rows=3, max_tokens=21)

    assert sorted(index for batch in batches for index in batch) == list(range(7))
    assert batches[0] == [6]
    assert all(len(batch) <= 3 for batch in batches)
    assert all(len(batch) * lengths[batch[0]] <= 21 or len(batch) == 1 for batch in batches)


def test_max_rows_takes_the_first_rows_of_the_file(tmp_path: Path) -> None:
    with ExamplesWriter(tmp_path) as writer:
        for number in (12, 4, 9):
            writer.append([1, 2], [-100, 2], row_number=number)

    assert [row.row_number for row in read_rows(tmp_path, row_format="chat", max_rows=2)] == [12, 4]
    assert [row.row_number for row in read_rows(tmp_path, row_format="chat")] == [12, 4, 9]


def test_examples_without_a_supervised_token_are_refused(tmp_path: Path) -> None:
    with ExamplesWriter(tmp_path) as writer:
        writer.append([1, 2], [-100, -100], row_number=1)

    with pytest.raises(UserInputError, match="at least one row with a supervised token"):
        read_rows(tmp_path, row_format="chat")


def test_unwanted_answers_are_not_taken_for_references(tmp_path: Path) -> None:
    with ExamplesWriter(tmp_path, kind=ExamplesKind.PREFERENCE) as writer:
        writer.append_pair(([1, 2], [-100, 2]), ([1, 3], [-100, 3]), row_number=1)

    with pytest.raises(UserInputError, match="kind preference hold unwanted ones") as caught:
        read_rows(tmp_path, row_format="preference")
    assert caught.value.code == "wrong_examples_kind"


def test_plain_text_asks_nothing(tmp_path: Path) -> None:
    with ExamplesWriter(tmp_path) as writer:
        writer.append([5, 6, 7], [-100, 6, 7], row_number=1)

    (row,) = read_rows(tmp_path, row_format="text")

    assert not row.has_question
    assert row.supervised_tokens == 2
