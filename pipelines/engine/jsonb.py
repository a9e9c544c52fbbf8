"""JSON and text from a child in the form that PostgreSQL stores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def storable(value: object) -> object:
    """Return ``value`` without what jsonb refuses: NaN and infinities become text, NUL and lone surrogates U+FFFD."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, Mapping):
        return {storable_text(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, Sequence):
        return [storable(item) for item in value]
    return storable_text(str(value))


def storable_object(value: Mapping[str, object]) -> dict[str, object]:
    """Return a JSON object as ``storable`` does."""
    return {storable_text(key): storable(item) for key, item in value.items()}


def storable_text(text: str) -> str:
    """Return ``text`` without NUL and lone surrogates."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "surrogatepass").decode("utf-8", "replace")
