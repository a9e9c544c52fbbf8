from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from celery_workers.contract.errors import UserInputError
from celery_workers.contract.measures import MeasuredFile
from celery_workers.data import token_lengths
from celery_workers.data.token_lengths import count_lengths


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def measured(folder: Path, lengths: Sequence[int]) -> MeasuredFile:
    path = folder / "rows.jsonl"
    rows = [json.dumps({"prompt": "w " * length, "completion": "done"}) for length in lengths]
    path.write_text("\n".join(rows))
    about = {"file_name": "rows.jsonl", "file_format": "jsonl", "row_format": "prompt_completion"}
    return MeasuredFile(path=str(path), rows=len(lengths), characters=sum(2 * length + 4 for length in lengths), **about)


def test_all_rows_of_a_small_file_are_counted(tmp_path: Path) -> None:
    found = count_lengths(measured(tmp_path, [0, 1, 3, 9]), words)

    assert (found.sample, found.rows, found.tokens, found.characters) == ("all", 4, 17, 42)
    assert (found.median, found.longest, found.longest_row) == (2, 10, 4)
    assert dict(zip(found.histogram_edges, found.histogram_rows, strict=True)) == {0: 0, 1: 1, 2: 1, 4: 1, 8: 1}


def test_of_many_rows_a_seeded_sample_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_lengths, "MAX_SAMPLED_ROWS", 20)
    file = measured(tmp_path, range(200))

    one, same, other = (count_lengths(file, words, seed=seed) for seed in (0, 0, 1))

    assert (one.sample, one.rows) == ("seeded", 20)
    assert one == same
    assert one != other


def test_long_rows_make_the_sample_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_lengths, "MAX_SAMPLED_CHARACTERS", 1000)

    assert count_lengths(measured(tmp_path, [48] * 100), words).rows == 10


def test_rows_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    file = measured(tmp_path, [5])
    path = Path(file.path)
    path.write_text(f"{path.read_text()}\nno json")

    assert count_lengths(file.model_copy(update={"rows": 2}), words).rows == 1


def test_a_file_that_is_another_is_refused(tmp_path: Path) -> None:
    file = measured(tmp_path, [5])

    with pytest.raises(UserInputError):
        count_lengths(file.model_copy(update={"row_format": "chat"}), words)
