from __future__ import annotations

from pathlib import Path

import pytest

from celery_workers.contract import UserInputError
from celery_workers.data.examples_file import ExamplesTable, ExamplesWriter, open_examples
from celery_workers.training.rows import check_rows, content_digest
from celery_workers.training.tests.conftest import write_examples


def table(folder: Path, *rows: tuple[list[int], list[int]]) -> ExamplesTable:
    with ExamplesWriter(folder) as writer:
        for number, (ids, labels) in enumerate(rows, start=101):
            writer.append(ids, labels, row_number=number)
    return open_examples(folder)


GOOD = ([1, 2, 3], [-100, 2, 3])


def test_good_rows_pass(tmp_path: Path) -> None:
    check_rows(table(tmp_path, GOOD), vocabulary_size=4, max_positions=3, what="examples")


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (([1, 2], [-100, -100]), "nothing_to_learn"),
        (([1, 2, 3, 1], [-100, 2, 3, 1]), "too_long"),
        (([1, 9], [-100, 9]), "wrong_vocabulary"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_named(bad: tuple[list[int], list[int]], code: str, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="1 do not: 102") as caught:
        check_rows(table(tmp_path, GOOD, bad), vocabulary_size=4, max_positions=3, what="examples")
    assert caught.value.code == code


def test_no_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="at least one row"):
        check_rows(table(tmp_path), vocabulary_size=4, max_positions=3, what="examples")


def test_digest_follows_the_content(tmp_path: Path) -> None:
    one, same, other = (
        content_digest(write_examples(tmp_path / name, lengths=[5, 6], seed=seed))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one == same != other
