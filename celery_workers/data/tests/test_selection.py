from __future__ import annotations

import random
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.near_dedup import NearDuplicateFinder, NearDuplicates
from celery_workers.data.row_formats import shape_of
from celery_workers.data.selection import Selection, SelectionRules

WORDS = ["alpha", "beta", "gamma", "delta", " ", "ann@example.com", "<p>x</p>"]
ROWS = st.lists(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join), max_size=30)
PATIENT = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def select(texts: list[str], folder: Path, *, near: NearDuplicates, is_deduplicating: bool = True) -> tuple[Selection, list]:
    """Return the selection, and (text, side) of each row that goes on."""
    finder = NearDuplicateFinder(folder / "compared", threshold=0.7)
    rules = SelectionRules(
        is_cleaning=True, is_deduplicating=is_deduplicating, eval_fraction=0.4, seed=3, near_duplicates=near
    )  # fmt: skip
    selection = Selection(shape_of("prompt_completion"), rules, finder=finder)
    rows = [CanonicalRow(n, {"prompt": "ask", "completion": f"w {text} w"}) for n, text in enumerate(texts, start=1)]
    kept = [row for start in range(0, len(rows), 4) for row in selection.take(rows[start : start + 4])]
    selection.settle(after_each=lambda: None)
    sides = selection.sides()
    going_on = [(row.values["completion"], side) for row, side in zip(kept, sides, strict=True) if side is not None]
    return selection, going_on


@given(texts=ROWS, near=st.sampled_from(["off", "group", "drop"]), is_deduplicating=st.booleans())
@PATIENT
def test_no_row_is_lost_unsaid(tmp_path: Path, texts: list[str], near: NearDuplicates, is_deduplicating: bool) -> None:
    selection, going_on = select(texts, tmp_path, near=near, is_deduplicating=is_deduplicating)

    counts = selection.counts
    assert counts.rows == len(texts)
    assert counts.kept_rows == len(going_on)
    assert counts.emptied_rows + counts.duplicate_rows + counts.near_dropped_rows + len(going_on) == len(texts)
    assert counts.leaked_contents == 0


@given(texts=ROWS)
@PATIENT
def test_selecting_twice_leaves_out_nothing_more(tmp_path: Path, texts: list[str]) -> None:
    _, once = select(texts, tmp_path, near="drop")
    rows = [str(text).removeprefix("w ").removesuffix(" w") for text, _ in once]

    _, twice = select(rows, tmp_path, near="drop")

    assert [text for text, _ in twice] == [text for text, _ in once]


@given(texts=ROWS, near=st.sampled_from(["off", "group"]), shuffle=st.randoms(use_true_random=False))
@PATIENT
def test_the_split_is_stable_under_reordering(
    tmp_path: Path, texts: list[str], near: NearDuplicates, shuffle: random.Random
) -> None:
    shuffled = list(texts)
    shuffle.shuffle(shuffled)

    _, straight = select(texts, tmp_path, near=near, is_deduplicating=False)
    _, reordered = select(shuffled, tmp_path, near=near, is_deduplicating=False)

    assert sorted(straight) == sorted(reordered)
