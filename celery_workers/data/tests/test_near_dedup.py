from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_workers.data.near_dedup import NearDuplicateFinder, NearResult, bands_for, shingles, similarity

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
# Few words, so that texts overlap often.
TEXTS = st.lists(st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta"]), max_size=12).map(" ".join), max_size=25)


def find(
    texts: list[str], folder: Path, *, threshold: float = 0.7, first: tuple[int, ...] = (), skipped: tuple[int, ...] = ()
) -> NearResult:
    finder = NearDuplicateFinder(folder / "texts", threshold=threshold)
    for start in range(0, len(texts), 7):
        finder.add(texts[start : start + 7])
    result = finder.find(first=first, skipped=skipped, after_each=lambda: None)
    finder.close()
    assert not (folder / "texts").exists()
    return result


def kept(texts: list[str], folder: Path) -> list[str]:
    repeats = find(texts, folder).repeats
    return [text for position, text in enumerate(texts) if position not in repeats]


def oracle(left: str, right: str) -> float:
    """Jaccard of 8-byte runs, the plain way."""
    sets = []
    for text in (left, right):
        data = " ".join(text.lower().split()).encode()
        sets.append({data[start : start + 8].ljust(8, b"\0") for start in range(len(data))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1]) if sets[0] | sets[1] else 1.0


@given(left=st.text(max_size=60), right=st.text(max_size=60))
@PATIENT
def test_similarity_is_the_jaccard_of_the_shingles(left: str, right: str) -> None:
    left, right = left.replace("\0", " "), right.replace("\0", " ")

    assert similarity(left, right) == pytest.approx(oracle(left, right), abs=1e-12)


@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=8))
@PATIENT
def test_a_batch_has_the_shingles_of_its_texts(texts: list[str]) -> None:
    flat, offsets = shingles(texts)

    for text, (start, end) in zip(texts, pairwise(offsets), strict=True):
        assert np.array_equal(flat[int(start) : int(end)], shingles([text])[0])


@given(texts=TEXTS)
@PATIENT
def test_every_dropped_text_is_as_similar_as_said_to_one_that_stays(tmp_path: Path, texts: list[str]) -> None:
    result = find(texts, tmp_path)

    for position, pair in result.repeats.items():
        assert pair.position == position
        assert pair.other not in result.repeats
        assert pair.similarity == pytest.approx(oracle(texts[position], texts[pair.other]), abs=1e-4)
        assert pair.similarity >= 0.7
        assert result.groups[position] == result.groups[pair.other]


@given(texts=TEXTS)
@PATIENT
def test_deduplication_is_idempotent(tmp_path: Path, texts: list[str]) -> None:
    once = kept(texts, tmp_path)

    assert kept(once, tmp_path) == once


@given(texts=TEXTS, shuffle=st.randoms(use_true_random=False))
@PATIENT
def test_groups_do_not_depend_on_the_order(tmp_path: Path, texts: list[str], shuffle: random.Random) -> None:
    order = list(range(len(texts)))
    shuffle.shuffle(order)

    def grouped(groups: dict[int, int], names: list[int]) -> set[frozenset[int]]:
        found: dict[int, set[int]] = {}
        for position, group in groups.items():
            found.setdefault(group, set()).add(names[position])
        return {frozenset(members) for members in found.values()}

    straight = find(texts, tmp_path).groups
    shuffled = find([texts[index] for index in order], tmp_path).groups

    assert grouped(straight, list(range(len(texts)))) == grouped(shuffled, order)


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
def test_the_bands_propose_nearly_every_pair_at_the_threshold(threshold: float) -> None:
    bands, values = bands_for(threshold)

    assert bands * values <= 60
    assert 1 - (1 - threshold**values) ** bands >= 0.99


def test_recall_is_high_among_edited_copies(tmp_path: Path) -> None:
    chance = random.Random(3)
    words = ["".join(chance.choices("abcdefgh", k=6)) for _ in range(2000)]
    originals = [" ".join(chance.choices(words, k=60)) for _ in range(400)]
    copies = [text.replace(text.split()[chance.randrange(60)], "another") for text in originals]
    near = {index for index in range(400) if similarity(originals[index], copies[index]) >= 0.8}

    result = find([*originals, *copies], tmp_path, threshold=0.8)

    assert len(near) > 350
    assert len({position - 400 for position in result.repeats} & near) / len(near) >= 0.95


def test_first_ones_stay_and_skipped_ones_count_for_nothing(tmp_path: Path) -> None:
    text = "the quick brown fox jumps over the lazy dog"

    assert set(find([text, text, text], tmp_path, skipped=(0,)).repeats) == {2}
    assert find([text, text], tmp_path, skipped=(0, 1)).repeats == {}
    assert set(find([text, text, text], tmp_path, first=(2,)).repeats) == {0, 1}


@given(known=TEXTS, texts=TEXTS)
@PATIENT
def test_each_text_that_nearly_repeats_a_known_one_is_found(tmp_path: Path, known: list[str], texts: list[str]) -> None:
    finder = NearDuplicateFinder(tmp_path / "texts", threshold=0.7)
    finder.add(known)
    finder.add(texts)
    found = finder.find_known(len(known), after_each=lambda: None)
    finder.close()

    for position, text in enumerate(texts, start=len(known)):
        best = max((oracle(text, other) for other in known), default=0)
        if pair := found.get(position):
            assert pair.other < len(known)
            assert pair.similarity == pytest.approx(oracle(text, known[pair.other]), abs=1e-4)
            assert pair.similarity >= 0.7
        else:
            assert best < 0.85  # the chance of missing a pair this alike is far below one in a million


def test_a_large_family_of_copies_takes_little_time_and_leaves_one(tmp_path: Path) -> None:
    texts = [f"the same long sentence that hardly differs at all from the others {number % 7}" for number in range(1000)]

    result = find(texts, tmp_path)

    assert len(result.repeats) == 999
    assert set(result.groups.values()) == {0}
    assert result.capped == 0


def test_nothing_is_found_among_none(tmp_path: Path) -> None:
    assert find([], tmp_path) == NearResult(repeats={}, groups={}, capped=0)
    assert find([""], tmp_path).repeats == {}
