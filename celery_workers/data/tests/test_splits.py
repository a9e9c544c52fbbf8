from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_workers.data.dedup import content_key
from celery_workers.data.splits import choose_held_out, group_keys, named_side

KEYS = st.lists(st.integers(0, 200).map(lambda number: content_key({"text": str(number)})), min_size=2, max_size=80)
FRACTIONS = st.floats(0.01, 0.99)


@given(keys=KEYS, fraction=FRACTIONS, seed=st.integers(0, 2**32 - 1), shuffle=st.randoms(use_true_random=False))
def test_the_split_is_stable_under_reordering(keys: list[bytes], fraction: float, seed: int, shuffle: random.Random) -> None:
    shuffled = list(keys)
    shuffle.shuffle(shuffled)

    assert choose_held_out(keys, fraction=fraction, seed=seed) == choose_held_out(shuffled, fraction=fraction, seed=seed)


@given(keys=KEYS, fraction=FRACTIONS, seed=st.integers(0, 2**32 - 1))
def test_no_side_is_empty_where_two_contents_exist(keys: list[bytes], fraction: float, seed: int) -> None:
    held_out = choose_held_out(keys, fraction=fraction, seed=seed)

    if len(set(keys)) > 1:
        assert 0 < len(held_out) < len(set(keys))
    else:
        assert held_out == set()


def test_rows_added_later_move_none() -> None:
    keys = [content_key({"text": str(number)}) for number in range(2000)]

    before = choose_held_out(keys[:1000], fraction=0.1, seed=1)
    after = choose_held_out(keys, fraction=0.1, seed=1)

    assert after & set(keys[:1000]) == before


def test_the_share_is_near_the_fraction_and_differs_by_seed() -> None:
    keys = [content_key({"text": str(number)}) for number in range(20_000)]

    splits = [choose_held_out(keys, fraction=0.1, seed=seed) for seed in (0, 1)]

    # Four standard deviations of a binomial share: sqrt(0.1 * 0.9 / 20,000) = 0.0021.
    assert all(abs(len(held_out) / len(keys) - 0.1) < 0.0085 for held_out in splits)
    assert len(splits[0] & splits[1]) < len(splits[0]) / 2


def test_nothing_is_held_out_without_a_fraction() -> None:
    assert choose_held_out([b"a", b"b"], fraction=0, seed=0) == set()


@pytest.mark.parametrize(
    ("value", "expected"), [("eval", True), (" Test ", True), ("train", False), ("", None), (None, None), ("later", None)]
)
def test_split_names_are_understood(value: str | None, expected: bool | None) -> None:
    assert named_side(value) is expected


LINKS = st.lists(st.tuples(st.integers(0, 29), st.sampled_from("abcdef")), max_size=20)


@given(numbers=st.lists(st.integers(0, 40), min_size=30, max_size=30), links=LINKS, shuffle=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_groups_are_joined_from_row_to_row_in_any_order(
    numbers: list[int], links: list[tuple[int, str]], shuffle: random.Random
) -> None:
    keys = [content_key({"text": str(number)}) for number in numbers]
    order = list(range(30))
    shuffle.shuffle(order)

    straight = group_keys(keys, links)
    reordered = group_keys([keys[index] for index in order], [(order.index(position), name) for position, name in links])

    assert [straight[index] for index in order] == reordered
    for position, name in links:
        assert straight[position] == straight[next(other for other, same in links if same == name)]
    assert all(group <= key for group, key in zip(straight, keys, strict=True))
    if not links:
        assert straight == keys
