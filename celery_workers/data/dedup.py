"""Find rows with the same content. Content is the canonical columns; row numbers and extra columns don't count."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping

from celery_workers.data.canonical import Value

KEY_BYTES = 16


def content_key(values: Mapping[str, Value]) -> bytes:
    """Return 16 bytes that are equal for equal content; an absent, null or empty column are the same."""
    content = {column: value for column, value in values.items() if value}
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


def comparison_text(values: Mapping[str, Value]) -> str:
    """Return what rows are compared by, beside their exact content: all their texts but system messages and tools.

    Those are often long and the same in every row, and would make different rows look alike.
    """
    parts: list[str] = []
    for column, value in values.items():
        if isinstance(value, str) and column not in ("system", "tools"):
            parts.append(value)
        elif isinstance(value, list):
            contents = (message.get("content") for message in value if message.get("role") != "system")
            parts += [content for content in contents if isinstance(content, str)]
    return "\n".join(parts)


class DuplicateFinder:
    """Collect rows in 16 bytes each, and say at the end which repeat an earlier one.

    It compares 64 bits of the key: among ten million rows a wrong pair has a chance of about 3 in a million, which is
    good enough to tell people, not to drop rows.
    """

    def __init__(self) -> None:
        self._keys = array("Q")
        self._numbers = array("q")

    def add(self, row_number: int, values: Mapping[str, Value]) -> None:
        """Remember a row."""
        self._keys.append(int.from_bytes(content_key(values)[:8], "little"))
        self._numbers.append(row_number)

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield (row number, number of the first row with that content) in the order of the rows added."""
        import numpy as np

        keys, numbers = np.frombuffer(self._keys, dtype=np.uint64), np.frombuffer(self._numbers, dtype=np.int64)
        _, first, group = np.unique(keys, return_index=True, return_inverse=True)
        first_position = first[group]
        for position in np.flatnonzero(first_position != np.arange(len(keys))):
            yield int(numbers[position]), int(numbers[first_position[position]])
