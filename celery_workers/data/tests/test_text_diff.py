from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from celery_workers.data.text_diff import MAX_WORDS, mark


def test_words_that_differ_are_marked() -> None:
    assert mark("two large lattes, please", "two small lattes, please") == (
        [("two ", False), ("large", True), (" lattes, please", False)],
        [("two ", False), ("small", True), (" lattes, please", False)],
    )


def test_texts_that_are_the_same_have_one_piece() -> None:
    assert mark("same", "same") == ([("same", False)], [("same", False)])
    assert mark("", "") == ([], [])


def test_a_middle_of_very_many_words_counts_as_different() -> None:
    old, new = " ".join(["a"] * MAX_WORDS), " ".join(["b", *["a"] * (MAX_WORDS - 2), "b"])
    left, _ = mark(f"begin {old} end", f"begin {new} end")
    assert left == [("begin ", False), (old, True), (" end", False)]


@given(st.text(), st.text())
def test_pieces_join_to_the_texts_and_the_same_pieces_are_the_same(before: str, after: str) -> None:
    left, right = mark(before, after)

    assert ("".join(text for text, _ in left), "".join(text for text, _ in right)) == (before, after)
    same = ["".join(text for text, differs in side if not differs) for side in (left, right)]
    assert same[0] == same[1]
