"""Tell quickly which rows of a block need a closer look, and what is remembered of each row.

Whole columns are looked at: texts by one combined pattern in C++ (``screening``), the order of roles once for every order
that occurs, by the very check that single rows go through. A row that is no suspect has no problem that
``checks.check_row`` or ``personal_problems`` could find; one that is may have.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from celery_workers.data.blocks import Block, Conversations, Texts
from celery_workers.data.canonical import Value, texts
from celery_workers.data.conversation_checks import check_conversations
from celery_workers.data.message_reading import Message
from celery_workers.data.row_formats import RowFormat, Shape
from celery_workers.data.screening import screen
from celery_workers.data.statistics import SPLIT_COLUMN, Facts, answer_columns, normal, question_of

LANGUAGE_CHARACTERS = 500

Roles = tuple[str | None, ...]
_Said = tuple[Roles, tuple[str | None, ...]] | None
"""The roles and contents of a conversation, if there is one; where a message says more, all of it stands for its content."""
_T = TypeVar("_T")
_REMEMBERED_ORDERS = 10_000


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look at a block showed, for each of its rows: ``keys`` are equal for equal content within this process.

    An absent, null or empty text are the same content.
    """

    block: Block
    characters: NDArray[np.int64]
    suspects: NDArray[np.bool_]
    keys: list[int]
    answers: list[str | None]
    flags: dict[str, NDArray[np.bool_]]
    answer_places: list[int | None]

    def texts(self, position: int, values: dict[str, Value]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Return the (field, text) pairs of the row at ``position``, whose values are ``values``; and those among them that
        may have a problem."""
        pairs = texts(values, self.block.shape.format)
        flags: list[bool] = []
        for column in self.block.shape.columns:
            if column in self.block.conversations:
                conversation = self.block.conversations[column]
                places = range(conversation.offsets[position], conversation.offsets[position + 1])
                flags += [bool(self.flags[column][place]) for place in places if conversation.contents[place] is not None]
            elif column in self.block.texts and values.get(column) is not None:
                flags.append(bool(self.flags[column][position]))
        return pairs, [pair for pair, flag in zip(pairs, flags, strict=True) if flag]

    def facts(self, unfit: Sequence[int]) -> Facts:
        """Return what is remembered of the rows, those at the positions ``unfit`` left out."""
        block, answers = self.block, self.answers
        kept = np.delete(np.arange(len(block)), unfit)
        labels = block.flags.get("label", answers)
        splits = block.extras.get(SPLIT_COLUMN)

        def values(place: int) -> dict[str, Value]:
            return block.row(int(kept[place])).values

        return Facts(
            numbers=_without(unfit, block.numbers),
            characters=self.characters[kept],
            keys=_without(unfit, self.keys),
            answers=_without(unfit, answers),
            labels=_without(unfit, labels),
            splits=None if splits is None else _without(unfit, splits),
            beginning=lambda place: _last_text(values(place), block.shape)[:LANGUAGE_CHARACTERS],
            questions=lambda places: self._question_keys(kept[places].tolist()),
        )

    def _question_keys(self, positions: Sequence[int]) -> list[int]:
        """Return for the rows at ``positions`` 64 bits that are equal where ``statistics.question_of`` is."""
        block = self.block
        if block.shape.format is RowFormat.CHAT:
            return list(map(hash, normal(self._asked(positions))))
        if block.conversations:
            return [hash(question_of(block.row(position).values, block.shape)) for position in positions]
        answers = answer_columns(block.shape)
        columns = [column for name, column in block.texts.items() if name not in answers]
        return list(map(hash, normal([" ".join(column[place] or "" for column in columns) for place in positions])))

    def _asked(self, positions: Sequence[int]) -> list[str]:
        """Return the roles and contents before the last answer of conversations that are fit, one after the other."""
        conversation, forms = self.block.conversations["messages"], _Forms()
        roles, contents = conversation.roles, conversation.contents
        asked = []
        for position in positions:
            start = conversation.offsets[position]
            end = start + (self.answer_places[position] or 0)
            asked.append(forms[tuple(roles[start:end])] % tuple(contents[start:end]))
        return asked


class Looker:
    """Looks at the blocks of one shape."""

    def __init__(self, shape: Shape, *, with_personal_data: bool, max_characters: int) -> None:
        self._shape = shape
        self._with_personal_data = with_personal_data
        self._max_characters = max_characters
        self._orders = _Orders(shape)
        self._last_answers = _LastAnswers()

    def look(self, block: Block) -> Look:
        """Look at all rows of ``block``."""
        characters = np.zeros(len(block), np.int64)
        suspects = np.zeros(len(block), np.bool_)
        suspects[list(block.problems)] = True
        columns = {**block.texts, **{name: column.contents for name, column in block.conversations.items()}}
        flags, lengths = self._screen(columns)
        for name in block.texts:
            characters += lengths[name]
            suspects |= flags[name]
        for name, conversation in block.conversations.items():
            characters += _sums(lengths[name], conversation.offsets)
            suspects[_rows_of(np.flatnonzero(flags[name]), conversation)] = True
            suspects[_rows_of(_unusual(conversation), conversation)] = True
        suspects |= characters > self._max_characters
        said = {column: _said(conversation) for column, conversation in block.conversations.items()}
        suspects |= self._misshapen(block, said)
        places = self._answer_places(said)
        return Look(
            block=block,
            characters=characters,
            suspects=suspects,
            keys=self._keys(block, said),
            answers=self._answers(block, places),
            answer_places=places,
            flags=flags,
        )

    def _screen(self, columns: Mapping[str, Texts]) -> tuple[dict[str, NDArray[np.bool_]], dict[str, NDArray[np.int64]]]:
        """Return flags and lengths of the texts of each column, looked at together: a pattern takes long to set up."""
        flags, lengths = screen(list(chain.from_iterable(columns.values())), with_personal_data=self._with_personal_data)
        borders = list(accumulate(map(len, columns.values()), initial=0))
        places = dict(zip(columns, pairwise(borders), strict=True))
        return (
            {name: flags[start:end] for name, (start, end) in places.items()},
            {name: lengths[start:end] for name, (start, end) in places.items()},
        )

    def _misshapen(self, block: Block, said: dict[str, list[_Said]]) -> NDArray[np.bool_]:
        """Return the rows that lack something or whose roles are out of order."""
        if not block.conversations:
            columns = [block.texts[column] for column in self._shape.required]
            found = np.zeros(len(block), np.bool_)
            for column in columns:
                found[[place for place, text in enumerate(column) if not text or text.isspace()]] = True
            return found
        roles = [[None if item is None else item[0] for item in said[column]] for column in self._shape.conversations]
        orders = zip(*roles, *(map(_is_none, values) for values in block.flags.values()), strict=True)
        known = self._orders
        if len(known) > _REMEMBERED_ORDERS:
            known.clear()
        found = np.fromiter((known[order] for order in orders), np.bool_, len(block))
        if self._shape.format is RowFormat.PREFERENCE:
            found |= [one == other for one, other in zip(said["chosen"], said["rejected"], strict=True)]
        return found

    def _keys(self, block: Block, said: dict[str, list[_Said]]) -> list[int]:
        columns: list[Sequence[Hashable]] = []
        for column in self._shape.columns:
            if column in said:
                columns.append(said[column])
            elif column in block.flags:
                columns.append(block.flags[column])
            else:
                columns.append([text or None for text in block.texts[column]])
        return list(map(hash, zip(*columns, strict=True)))

    def _answer_places(self, said: dict[str, list[_Said]]) -> list[int | None]:
        """Return which message of each conversation is its last answer."""
        if len(self._last_answers) > _REMEMBERED_ORDERS:
            self._last_answers.clear()
        return [None if item is None else self._last_answers[item[0]] for item in said.get(self._shape.answer, ())]

    def _answers(self, block: Block, places: Sequence[int | None]) -> list[str | None]:
        column = self._shape.answer
        if column not in block.conversations:
            return block.texts[column]
        conversation = block.conversations[column]
        return [
            None if place is None else conversation.contents[start + place]
            for place, start in zip(places, conversation.offsets, strict=False)
        ]


def _said(conversation: Conversations) -> list[_Said]:
    roles, contents = conversation.roles, conversation.contents
    if conversation.further:
        contents = list(contents)
        for place, message in conversation.further.items():
            contents[place] = json.dumps(message, sort_keys=True)
    found: list[_Said] = [(tuple(roles[a:b]), tuple(contents[a:b])) for a, b in pairwise(conversation.offsets)]
    for position in conversation.missing:
        found[position] = None
    return found


def _unusual(conversation: Conversations) -> list[int]:
    """Return the places of messages that say more than a role and a text, or say nothing."""
    roles = conversation.roles
    empty = [
        place
        for place, text in enumerate(conversation.contents)
        if (not text or text.isspace()) and (text is None or roles[place] not in ("system", "tool"))
    ]
    return [*conversation.further, *empty]


def _rows_of(places: Sequence[int] | NDArray[np.intp], conversation: Conversations) -> NDArray[np.intp]:
    return np.searchsorted(conversation.offsets, places, side="right") - 1


def _sums(numbers: NDArray[np.int64], offsets: Sequence[int]) -> NDArray[np.int64]:
    up_to = np.concatenate([[0], np.cumsum(numbers)])[offsets]
    return np.diff(up_to)


def _without(positions: Sequence[int], values: Sequence[_T]) -> Sequence[_T]:
    """Return ``values`` without those at ``positions``, which ascend."""
    if not positions:
        return values
    borders = [-1, *positions, len(values)]
    return list(chain.from_iterable(values[start + 1 : end] for start, end in pairwise(borders)))


def _last_text(values: dict[str, Value], shape: Shape) -> str:
    pairs = texts(values, shape.format)
    return pairs[-1][1] if pairs else ""


def _is_none(value: object) -> bool:
    return value is None


class _Orders(dict[tuple[object, ...], bool]):
    """Whether something is wrong with an order of roles (and flags that are null), each looked at once."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._shape = shape

    def __missing__(self, order: tuple[object, ...]) -> bool:
        values: dict[str, object] = {}
        for column, roles in zip((*self._shape.conversations, *self._shape.flags), order, strict=True):
            if column in self._shape.flags:
                values[column] = None if roles else True
            else:
                values[column] = None if roles is None else _conversation(column, roles)  # type: ignore[arg-type]
        self[order] = any(check_conversations(0, values, self._shape.format))
        return self[order]


def _conversation(column: str, roles: Roles) -> list[Message]:
    return [{"role": role, "content": f"{column} {place}"} for place, role in enumerate(roles)]


class _Forms(dict[Roles, str]):
    """Roles with room for what they say."""

    def __missing__(self, roles: Roles) -> str:
        self[roles] = " ".join(str(role).replace("%", "%%") + " %s" for role in roles)
        return self[roles]


class _LastAnswers(dict[Roles, int | None]):
    """The place of the last message of the assistant, for each order of roles."""

    def __missing__(self, roles: Roles) -> int | None:
        self[roles] = next((place for place in range(len(roles) - 1, -1, -1) if roles[place] == "assistant"), None)
        return self[roles]
