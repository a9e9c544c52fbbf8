"""Hold rows out for evaluation by a seeded hash of their content.

A row's side depends on its content and the seed only: not on its place, nor on the other rows. So reordering changes
nothing, rows added later move none, and rows of the same content never stand on both sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

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


def named_side(value: str | None) -> bool | None:
    """Return whether the value of a split column holds a row out; None if it names no side."""
    name = (value or "").strip().lower()
    if name in HELD_OUT_NAMES:
        return True
    return False if name in TRAIN_NAMES else None
