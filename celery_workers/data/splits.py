"""Hold rows out for evaluation by a seeded hash of their content.

A row's side depends on its content and the seed only: not on its place, nor on the other rows. So reordering changes
nothing, rows added later move none, and rows of the same content never stand on both sides. Rows of a group (near
duplicates, or one value of a column) go where the lowest content key of their group goes, so that a group is never parted;
there, a row added later may move its own group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Iterable, Sequence

HELD_OUT_NAMES = frozenset({"eval", "evaluation", "test", "validation", "valid", "val", "dev", "heldout", "held_out"})
TRAIN_NAMES = frozenset({"train", "training"})


def score(key: bytes, seed: int) -> float:
    """Return the place of a content key between 0 and 1, uniform over keys, for ``seed``."""
    digest = hashlib.blake2b(key, digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little") / 2**64


def choose_held_out(keys: Collection[bytes], *, fraction: float, seed: int) -> set[bytes]:
    """Return the keys to hold out: those whose score lies below ``fraction``.

    Where that leaves a side of two or more contents empty, the lowest (or highest) score alone crosses over.
    """
    contents = set(keys)
    if fraction <= 0 or len(contents) < 2:
        return set()
    held_out = {key for key in contents if score(key, seed) < fraction}
    if not held_out:
        held_out = {min(contents, key=lambda key: score(key, seed))}
    elif len(held_out) == len(contents):
        held_out.remove(max(contents, key=lambda key: score(key, seed)))
    return held_out


def group_keys(keys: Sequence[bytes], links: Iterable[tuple[int, Hashable]]) -> list[bytes]:
    """Return the key of each row's group: the lowest content key among the rows that are joined to it.

    ``links`` give positions names; rows of one name belong together, as do rows of the same content, and so on from row to row.
    """
    from networkx.utils import UnionFind

    groups = UnionFind(range(len(keys)))
    first: dict[Hashable, int] = {}
    for position, key in enumerate(keys):
        groups.union(first.setdefault(("content", key), position), position)
    for position, name in links:
        groups.union(first.setdefault(("name", name), position), position)
    lowest: dict[int, bytes] = {}
    for position, key in enumerate(keys):
        root = groups[position]
        lowest[root] = min(key, lowest.get(root, key))
    return [lowest[groups[position]] for position in range(len(keys))]


def named_side(value: str | None) -> bool | None:
    """Return whether the value of a split column holds a row out; None if it names no side."""
    name = (value or "").strip().lower()
    if name in HELD_OUT_NAMES:
        return True
    return False if name in TRAIN_NAMES else None
