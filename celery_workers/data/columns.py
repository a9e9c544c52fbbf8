"""What columns a file has, and of what types their values are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from celery_workers.data.formats.json_values import type_name
from celery_workers.data.rows import MAX_COLUMNS, SourceFile, SourceRow

_REMEMBERED_KINDS = 256
"""Rows of the same columns and types as one of these add nothing to what is known of the columns."""


class Columns:
    """The columns seen so far, in the order of their first appearance, with the types of their values."""

    def __init__(self, source: SourceFile) -> None:
        self._source = source
        self._types: dict[str, set[type]] = {}
        self._seen: set[tuple[object, ...]] = set()

    def add(self, rows: Sequence[SourceRow]) -> None:
        """Look at ``rows``.

        Raises: UserInputError: there are more than ``MAX_COLUMNS`` columns.
        """
        for row in rows:
            values = row.values
            if values is None:
                continue
            kinds = (*values, *map(type, values.values()))
            if kinds not in self._seen:
                self._add_row(values)
                self._seen.add(kinds)
        if len(self._types) > MAX_COLUMNS:
            message = f"must have at most {MAX_COLUMNS} columns, got {len(self._types)} up to here"
            raise self._source.error(message, code="too_many_columns", row=rows[-1].number)

    def _add_row(self, values: Mapping[str, object]) -> None:
        for name, value in values.items():
            self._types.setdefault(name, set()).add(type(value))
        if len(self._seen) >= _REMEMBERED_KINDS:
            self._seen.clear()

    def learn(self, name: str, types: Iterable[type]) -> None:
        """Note that a known column has values of ``types`` too."""
        self._types[name].update(types)

    @property
    def types(self) -> Mapping[str, set[type]]:
        """Types of the values of each column."""
        return self._types

    @property
    def size(self) -> int:
        """Columns and types of them so far, which only grows."""
        return sum(map(len, self._types.values()))

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self._types)

    def as_json(self) -> list[dict[str, str]]:
        """Return ``[{"name", "type"}]``; several types are joined by ``or``."""
        return [{"name": name, "type": " or ".join(sorted(map(_describe, types)))} for name, types in self._types.items()]


def _describe(kind: type) -> str:
    examples: dict[type, object] = {bool: True, int: 0, float: 0.0, str: "", list: [], dict: {}, type(None): None}
    return type_name(examples[kind]) if kind in examples else kind.__name__
