"""Find rows with the same content. Content is the canonical columns; row numbers and extra columns don't count."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

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
