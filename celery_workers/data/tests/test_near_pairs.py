from __future__ import annotations

import json
from pathlib import Path

import pytest

from celery_workers.contract.measures import MeasuredFile
from celery_workers.data import near_pairs
from celery_workers.data.near_pairs import find_pairs

LONG = "Please write me a poem about the sea, the stars and everything that lies between them, in four lines."


@pytest.fixture
def file(tmp_path: Path) -> MeasuredFile:
    """Row 3 is row 1 with another end, row 5 the same as row 1; row 4 cannot be read; the others are unlike."""
    prompts = [LONG, "two large lattes", f"{LONG[:-1]}!", None, LONG, "what is the weather in Bergen today"]
    lines = ["no json" if prompt is None else json.dumps({"prompt": prompt, "completion": "ok"}) for prompt in prompts]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines))
    about = {"file_name": "rows.jsonl", "file_format": "jsonl", "row_format": "prompt_completion"}
    return MeasuredFile(path=str(path), rows=6, **about)


def test_pairs_have_row_numbers_and_the_most_similar_come_first(file: MeasuredFile, tmp_path: Path) -> None:
    found = find_pairs(file, tmp_path / "scratch", threshold=0.8)

    assert [(pair.first, pair.second) for pair in found.pairs] == [(1, 5), (1, 3)]
    assert found.pairs[0].similarity == 1
    assert 0.8 <= found.pairs[1].similarity < 1
    assert (found.rows, found.compared_rows, found.pairs_total) == (6, 5, 2)
    assert not (tmp_path / "scratch").exists()


def test_a_higher_threshold_finds_fewer(file: MeasuredFile, tmp_path: Path) -> None:
    assert [pair.second for pair in find_pairs(file, tmp_path / "scratch", threshold=1.0).pairs] == [5]


def test_what_is_beyond_the_limits_is_counted(file: MeasuredFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_pairs, "MAX_PAIRS", 1)
    found = find_pairs(file, tmp_path / "a", threshold=0.8)
    assert (len(found.pairs), found.pairs_total) == (1, 2)
    monkeypatch.setattr(near_pairs, "MAX_COMPARED_ROWS", 3)
    found = find_pairs(file, tmp_path / "b", threshold=0.8)
    assert (found.compared_rows, found.pairs_total) == (3, 1)
