"""Find near duplicates by MinHash and locality-sensitive hashing, and settle each candidate by its exact similarity.

A shingle is every run of 8 bytes of a text in lower case with single spaces, so a shingle is one 64-bit number, nothing is
hashed away, and languages without spaces need no word list. Similarity is the share of the shingles of two texts that both
have (Jaccard). Signatures only propose pairs; no row is called a near duplicate on an estimate.

Source: Broder 1997, "On the resemblance and containment of documents" (shingles); Leskovec, Rajaraman, Ullman, "Mining of
Massive Datasets", 3.4 (bands of a signature).
"""

from __future__ import annotations

import mmap
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

SHINGLE_BYTES = 8
SIGNATURE_LENGTH = 60
_SEED = 1
_RECALL = 0.99
_MOST_IN_BUCKET = 64
_BEGINNING_BYTES = 400

Numbers = npt.NDArray[np.uint64]
NearDuplicates = Literal["off", "group", "drop"]
"""What becomes of them: nothing is looked for; they stay, on one side of the split; all but the first are dropped."""


@dataclass(frozen=True, slots=True)
class NearPair:
    """A row, the earlier one that it nearly repeats (both as positions), and their exact similarity, 0 to 1."""

    position: int
    other: int
    similarity: float


@dataclass(frozen=True, kw_only=True)
class NearResult:
    """What was found.

    ``repeats``: for each position that repeats an earlier one that stays, the pair; ``groups``: for every position in a group
    of several, the lowest position of its group; ``capped``: texts that stay and share a band with so many others that are no
    near duplicates (64) that later ones were not compared with them.
    """

    repeats: dict[int, NearPair]
    groups: dict[int, int]
    capped: int


def shingles(texts: Sequence[str]) -> tuple[Numbers, Numbers]:
    """Return the shingles of ``texts``, one text after the other, and the offset of each text's first (one more at the end).

    A text of n bytes has n shingles; the last seven are filled up with zeros, so the shortest text has one as well.
    """
    encoded = [_normalize(text) for text in texts]
    data = bytes(SHINGLE_BYTES).join([*encoded, b""])
    if not data:
        return np.empty(0, dtype=np.uint64), np.zeros(len(texts) + 1, dtype=np.uint64)
    windows = _windows(data)
    is_text = np.frombuffer(data, dtype=np.uint8, count=len(windows)) != 0
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.uint64)
    return windows[is_text], offsets


def similarity(left: str, right: str) -> float:
    """Return the exact Jaccard similarity of two texts' shingles, 0 to 1."""
    return _jaccard(_shingle_set(left), _shingle_set(right))


def bands_for(threshold: float) -> tuple[int, int]:
    """Return (bands, values in each) that propose a pair of similarity ``threshold`` with a chance of at least 0.99.

    A pair of similarity s is proposed with the chance 1 - (1 - s^r)^b. The more values r in a band, the fewer pairs are
    proposed in vain.
    """
    for values in range(SIGNATURE_LENGTH // 4, 1, -1):
        bands = SIGNATURE_LENGTH // values
        if 1 - (1 - threshold**values) ** bands >= _RECALL:
            return bands, values
    return SIGNATURE_LENGTH, 1


class NearDuplicateFinder:
    """Take texts in batches, and say at the end which nearly repeat another.

    It holds 8 bytes for each band of a text in memory, and the texts in the file ``scratch``.
    """

    def __init__(self, scratch: Path, *, threshold: float) -> None:
        self.threshold = threshold
        self._path = scratch
        self._file = scratch.open("w+b")
        self._ends = array("Q", [0])
        self._bands, self._values = bands_for(threshold)
        self._keys: list[Numbers] = []

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, texts: Sequence[str]) -> None:
        """Remember ``texts``; their positions go on from the last."""
        if not texts:
            return
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        self._file.write(b"".join(encoded))
        self._ends.extend(accumulate(map(len, encoded[1:]), initial=self._ends[-1] + len(encoded[0])))
        self._keys.append(self._band_keys(texts))

    def find(self, *, first: Collection[int] = (), skipped: Collection[int] = (), after_each: Callable[[], None]) -> NearResult:
        """Compare every text with those that share a band.

        ``first`` are positions that stay rather than their repetitions elsewhere; the others go by their order. ``skipped``
        ones are as if they had not been added. ``after_each`` is called after each text with candidates. Groups depend on
        the texts only, not on their order.
        """
        self._file.flush()
        if not self._ends[-1]:
            return NearResult(repeats={}, groups={}, capped=0)
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            comparison = _Comparison(lambda position: self._text(data, position), self.threshold)
            buckets = self._shared_buckets()
            early, passed_over = set(first), set(skipped)
            for position in sorted(buckets.keys() - passed_over, key=lambda item: (item not in early, item)):
                comparison.take(position, buckets[position])
                after_each()
        return comparison.result()

    def find_known(self, known: int, *, after_each: Callable[[], None]) -> dict[int, NearPair]:
        """Say which texts from position ``known`` on nearly repeat one before it, and the first of these.

        Texts on the same side of ``known`` are not compared with one another, and none of the known ones is spared.
        """
        self._file.flush()
        if len(self) == 0:
            return {}
        found: dict[int, NearPair] = {}
        buckets = self._shared_buckets()
        places: defaultdict[int, list[int]] = defaultdict(list)
        for position in sorted(position for position in buckets if position < known):
            for bucket in buckets[position]:
                places[bucket].append(position)
        with self._mapped() as data:
            shingles_of = lru_cache(maxsize=256)(lambda position: _shingle_set(self._text(data, position)))
            for position in sorted(position for position in buckets if position >= known):
                after_each()
                for other in _candidates(places, buckets[position]):
                    similar = _jaccard(shingles_of(position), shingles_of(other))
                    if similar >= self.threshold:
                        found[position] = NearPair(position, other, round(similar, 4))
                        break
        return found

    def beginning(self, position: int) -> str:
        """Return the first hundred or so characters of a text."""
        start, end = self._ends[position], self._ends[position + 1]
        self._file.seek(start)
        data = self._file.read(min(end - start, _BEGINNING_BYTES))
        return data.decode("utf-8", "ignore")[:120]

    def close(self) -> None:
        """Remove the file of texts."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _mapped(self) -> AbstractContextManager[mmap.mmap | bytes]:
        """Return the bytes of all texts; a file without any cannot be mapped."""
        return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) if self._ends[-1] else nullcontext(b"")

    def _text(self, data: mmap.mmap | bytes, position: int) -> str:
        return data[self._ends[position] : self._ends[position + 1]].decode("utf-8", "surrogatepass")

    def _band_keys(self, texts: Sequence[str]) -> Numbers:
        """Return one number for each band of each text: (texts, bands) uint64."""
        from rensa import RMinHash

        flat, offsets = shingles(texts)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(flat, offsets, SIGNATURE_LENGTH, _SEED)
        used = self._bands * self._values
        signature = np.array(matrix.to_rows(), dtype=np.uint64)[:, :used].reshape(len(texts), self._bands, self._values)
        keys = np.zeros((len(texts), self._bands), dtype=np.uint64)
        for index in range(self._values):
            keys = (keys ^ signature[:, :, index]) * np.uint64(0x9E3779B97F4A7C15)  # odd, so no value is lost
            keys ^= keys >> np.uint64(29)
        return keys

    def _shared_buckets(self) -> dict[int, list[int]]:
        """Return the buckets of every position that shares one with another; a bucket is a value of a band."""
        keys = np.concatenate(self._keys)
        buckets: defaultdict[int, list[int]] = defaultdict(list)
        for band in range(self._bands):
            _, inverse, counts = np.unique(keys[:, band], return_inverse=True, return_counts=True)
            shared = np.flatnonzero(counts[inverse] > 1)
            for position, bucket in zip(shared.tolist(), (inverse[shared] + band * len(keys)).tolist(), strict=True):
                buckets[position].append(bucket)
        return buckets


class _Comparison:
    """Settle candidates one after the other."""

    def __init__(self, text_of: Callable[[int], str], threshold: float) -> None:
        from networkx.utils import UnionFind

        self._threshold = threshold
        self._shingles = lru_cache(maxsize=256)(lambda position: _shingle_set(text_of(position)))
        self._staying: dict[int, list[int]] = {}
        self._repeating: dict[int, list[int]] = {}
        self._groups = UnionFind()
        self._repeats: dict[int, NearPair] = {}
        self._capped = 0

    def take(self, position: int, buckets: Sequence[int]) -> None:
        """Compare ``position`` with what was taken before: first with those that stay, then, for its group, with the rest."""
        for other in _candidates(self._staying, buckets):
            self._compare(position, other)
        for other in _candidates(self._repeating, buckets):
            self._compare(position, other)
        is_repeat = position in self._repeats
        places, is_capped = self._repeating if is_repeat else self._staying, False
        for bucket in buckets:
            members = places.setdefault(bucket, [])
            if len(members) < _MOST_IN_BUCKET:
                members.append(position)
            else:
                is_capped = True
        self._capped += is_capped and not is_repeat

    def result(self) -> NearResult:
        """Return what was found."""
        groups = {member: min(group) for group in self._groups.to_sets() if len(group) > 1 for member in group}
        return NearResult(repeats=self._repeats, groups=groups, capped=self._capped)

    def _compare(self, position: int, other: int) -> None:
        """Compare with one candidate, unless its group is the same and so nothing can be learned."""
        needs_pair = position not in self._repeats and other not in self._repeats
        if not needs_pair and self._groups[position] == self._groups[other]:
            return
        found = _jaccard(self._shingles(position), self._shingles(other))
        if found >= self._threshold:
            self._groups.union(position, other)
            if needs_pair:
                self._repeats[position] = NearPair(position, other, round(found, 4))


def _candidates(places: Mapping[int, list[int]], buckets: Sequence[int]) -> list[int]:
    return sorted(set().union(*filter(None, map(places.get, buckets))))


def _normalize(text: str) -> bytes:
    lowered = text.lower()
    if lowered.isprintable() and "  " not in lowered:  # no white space but single spaces, so the slower way changes nothing
        return lowered.strip().encode()
    return " ".join(lowered.replace("\0", " ").split()).encode("utf-8", "surrogatepass")


def _windows(data: bytes) -> Numbers:
    """Return a view of ``data`` that has a number from each byte on, but for the last eight: bytes read as uint64."""
    return np.ndarray((len(data) - SHINGLE_BYTES,), dtype=np.uint64, buffer=data, strides=(1,))


def _shingle_set(text: str) -> Numbers:
    """Return the different shingles of one text, sorted."""
    ordered = np.sort(_windows(_normalize(text) + bytes(SHINGLE_BYTES)))
    is_new = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    return ordered[is_new]


def _jaccard(left: Numbers, right: Numbers) -> float:
    if not len(left) or not len(right):
        return float(len(left) == len(right))
    joined = np.sort(np.concatenate((left, right)))
    both = np.count_nonzero(joined[1:] == joined[:-1])  # np.unique and np.intersect1d take several times as long
    return float(both / (len(left) + len(right) - both))
