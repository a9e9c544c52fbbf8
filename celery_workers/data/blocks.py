"""Canonical rows column by column: the form in which many are read, checked and written at once.

    block = block_of(rows, shape)      # from rows
    block.row(7)                       # and back, one by one

Nothing is lost on the way: what a row has beyond plain texts (problems that reading brought up, further keys of messages)
stands beside the columns under its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

from celery_workers.data.canonical import CanonicalRow, Value
from celery_workers.data.message_reading import Message
from celery_workers.data.row_formats import Shape
from celery_workers.data.rows import RowProblem

Texts = list[str | None]


@dataclass(kw_only=True)
class Conversations:
    """A column of messages, laid end to end: row ``i`` has ``counts[i]`` of them, or none at all if it is ``missing``.

    ``further`` holds whole messages that have more than role and content, by their place in ``roles`` and ``contents``.
    """

    counts: list[int]
    roles: Texts
    contents: Texts
    missing: set[int] = field(default_factory=set)
    further: dict[int, Message] = field(default_factory=dict)

    @cached_property
    def offsets(self) -> list[int]:
        """Where the messages of each row begin in ``roles`` and ``contents``, and where the last end."""
        return [0, *accumulate(self.counts)]

    def messages(self, position: int) -> list[Message] | None:
        """Return the messages of the row at ``position``."""
        if position in self.missing:
            return None
        places = range(self.offsets[position], self.offsets[position + 1])
        return [
            self.further[place] if place in self.further else {"role": self.roles[place], "content": self.contents[place]}
            for place in places
        ]


@dataclass(kw_only=True)
class Block:
    """Rows of one shape, in order. Every list has an entry for each row; ``problems`` are those of reading, by position."""

    shape: Shape
    numbers: list[int]
    texts: dict[str, Texts]
    conversations: dict[str, Conversations] = field(default_factory=dict)
    flags: dict[str, list[bool | None]] = field(default_factory=dict)
    extras: dict[str, Texts] = field(default_factory=dict)
    problems: dict[int, list[RowProblem]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers)

    def first(self, count: int) -> Block:
        """Return the first ``count`` rows."""
        if count >= len(self):
            return self
        return block_of([self.row(position) for position in range(count)], self.shape)

    def row(self, position: int) -> CanonicalRow:
        """Return the row at ``position``; extra columns that it does not have are null."""
        values: dict[str, Value] = {}
        for column in self.shape.columns:
            if column in self.conversations:
                values[column] = self.conversations[column].messages(position)
            elif column in self.flags:
                values[column] = self.flags[column][position]
            else:
                values[column] = self.texts[column][position]
        extras = {name: column[position] for name, column in self.extras.items()}
        return CanonicalRow(self.numbers[position], values, extras, self.problems.get(position, []))


def block_of(rows: Sequence[CanonicalRow], shape: Shape) -> Block:
    """Return ``rows`` column by column."""
    texts: dict[str, Texts] = {}
    conversations: dict[str, Conversations] = {}
    flags: dict[str, list[bool | None]] = {}
    for column in shape.columns:
        values = [row.values.get(column) for row in rows]
        if column in shape.conversations:
            conversations[column] = conversations_of(values)  # type: ignore[arg-type]
        elif column in shape.flags:
            flags[column] = values  # type: ignore[assignment]
        else:
            texts[column] = values  # type: ignore[assignment]
    names = dict.fromkeys(name for row in rows for name in row.extras)
    return Block(
        shape=shape,
        numbers=[row.number for row in rows],
        texts=texts,
        conversations=conversations,
        flags=flags,
        extras={name: [row.extras.get(name) for row in rows] for name in names},
        problems={position: row.problems for position, row in enumerate(rows) if row.problems},
    )


def conversations_of(column: Sequence[list[Message] | None]) -> Conversations:
    """Return the messages of each row laid end to end."""
    flat = [message for messages in column if messages for message in messages]
    return Conversations(
        counts=[len(messages) if messages else 0 for messages in column],
        roles=[message["role"] for message in flat],  # type: ignore[misc]
        contents=[message["content"] for message in flat],  # type: ignore[misc]
        missing={position for position, messages in enumerate(column) if messages is None},
        further={place: message for place, message in enumerate(flat) if len(message) > 2},
    )
