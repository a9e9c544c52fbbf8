"""Values of any file as JSON has them."""

from __future__ import annotations

import math
from collections.abc import Mapping


def plain(value: object) -> object:
    """Return ``value`` as JSON has it: Parquet also knows dates, bytes, decimals and NaN, which become text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value)
