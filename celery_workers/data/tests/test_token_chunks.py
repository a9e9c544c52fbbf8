from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from celery_workers.data.examples_file import IGNORED_LABEL
from celery_workers.data.token_chunks import chunk
from celery_workers.data.tokenization import TokenRow


def whole(length: int, prefix: list[int]) -> TokenRow:
    ids = [*prefix, *range(10, 10 + length)]
    start = max(len(prefix), 1)
    return TokenRow(ids, [IGNORED_LABEL] * start + ids[start:])


def test_chunks_begin_with_what_every_text_begins_with() -> None:
    pieces = chunk(whole(5, [1]), 3, prefix_ids=[1])

    assert [piece.input_ids for piece in pieces] == [[1, 10, 11], [1, 12, 13], [1, 14]]
    assert [piece.labels for piece in pieces] == [[-100, 10, 11], [-100, 12, 13], [-100, 14]]


def test_chunks_without_a_beginning_see_the_token_before() -> None:
    pieces = chunk(whole(5, []), 3, prefix_ids=[])

    assert [piece.input_ids for piece in pieces] == [[10, 11, 12], [12, 13, 14]]
    assert [piece.labels for piece in pieces] == [[-100, 11, 12], [-100, 13, 14]]


@given(length=st.integers(1, 300), limit=st.integers(3, 40), prefix=st.sampled_from([[], [1], [1, 2]]))
def test_every_trained_token_is_trained_once_and_none_is_lost(length: int, limit: int, prefix: list[int]) -> None:
    example = whole(length, prefix)

    pieces = chunk(example, limit, prefix_ids=prefix)

    trained = [label for piece in pieces for label in piece.labels if label != IGNORED_LABEL]
    assert trained == [label for label in example.labels if label != IGNORED_LABEL]
    assert all(len(piece.input_ids) == len(piece.labels) <= limit for piece in pieces)
    assert all(piece.labels[0] == IGNORED_LABEL for piece in pieces)
    texts = [piece.input_ids[len(prefix) :] for piece in pieces]
    rejoined = [*texts[0], *(token for text in texts[1:] for token in text[0 if prefix else 1 :])]
    assert rejoined == example.input_ids[len(prefix) :]
