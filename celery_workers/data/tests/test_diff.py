from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from celery_workers.data.diff import RowsDiff, Side, diff_rows
from celery_workers.data.formats import FileFormat
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.rows import SourceFile


def pair(prompt: str, completion: str) -> dict[str, str]:
    return {"prompt": prompt, "completion": completion}


def side(path: Path, rows: list[dict], row_format: RowFormat) -> Side:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return Side(source=SourceFile(path=path, name=path.name), file_format=FileFormat.JSONL, row_format=row_format)


def diff(
    folder: Path, before: list[dict], after: list[dict], row_format: str = "prompt_completion", **options: int
) -> RowsDiff:
    sides = [side(folder / name, rows, RowFormat(row_format)) for name, rows in (("a.jsonl", before), ("b.jsonl", after))]
    return diff_rows(*sides, **options)


def counts(found: RowsDiff) -> tuple[int, int, int, int]:
    return found.unchanged, found.added, found.removed, found.changed


def test_rows_are_added_removed_and_changed(tmp_path: Path) -> None:
    before = [pair("a", "1"), pair("b", "2"), pair("c", "3"), pair("d", "4")]
    after = [pair("a", "1"), pair("b", "two"), pair("see", "3"), pair("e", "5"), pair("f", "6")]

    found = diff(tmp_path, before, after)

    assert counts(found) == (1, 2, 1, 2)
    assert [(row.before_number, row.before) for row in found.removed_rows] == [(4, pair("d", "4"))]
    assert [row.after["prompt"] for row in found.added_rows] == ["e", "f"]
    assert [(row.before_number, row.after_number, row.before, row.after) for row in found.changed_rows] == [
        (2, 2, {"completion": "2"}, {"completion": "two"}),
        (3, 3, {"prompt": "c"}, {"prompt": "see"}),
    ]


def test_a_text_changed_in_its_place_is_changed(tmp_path: Path) -> None:
    before = [{"text": text} for text in ("one", "schÃ¶n", "three", "four")]
    after = [{"text": text} for text in ("one", "schön", "three")]

    assert counts(diff(tmp_path, before, after, "text")) == (2, 0, 1, 1)


def test_repetitions_count_one_by_one(tmp_path: Path) -> None:
    assert counts(diff(tmp_path, [pair("a", "1")] * 3, [pair("a", "1")])) == (1, 0, 2, 0)


def test_order_and_empty_columns_make_no_difference(tmp_path: Path) -> None:
    rows = [pair(f"p{number}", "c") for number in range(9)]

    assert counts(diff(tmp_path, rows, [{**row, "note": None} for row in reversed(rows)])) == (9, 0, 0, 0)


def test_samples_are_bounded_and_long_values_cut(tmp_path: Path) -> None:
    found = diff(tmp_path, [pair("a", "1")], [pair(f"p{number}", "x" * 5000) for number in range(50)], samples=3)

    assert (found.added + found.changed, len(found.added_rows)) == (50, 3)
    assert len(found.added_rows[0].after["completion"]) == 2001


rows = st.lists(st.builds(pair, st.sampled_from("abcd"), st.sampled_from("1234")), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(rows, rows)
def test_every_row_of_both_is_accounted_for(tmp_path_factory, before: list[dict], after: list[dict]) -> None:
    found = diff(tmp_path_factory.mktemp("diff"), before, after)

    assert found.unchanged + found.removed + found.changed == len(before)
    assert found.unchanged + found.added + found.changed == len(after)
