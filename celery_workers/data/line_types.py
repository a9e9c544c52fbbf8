"""A type for the lines of a JSON Lines file, and its rows as canonical columns.

Of each column the type takes the kinds of values that were seen in it. Messages are a role and a text, and nothing else that
says something. So of what the type took, most is canonical as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any, Literal, Union

import msgspec
from msgspec import UNSET, UnsetType

from celery_workers.data.blocks import Block, Conversations, Texts
from celery_workers.data.canonical import CanonicalRow, Value, as_text, extra_name
from celery_workers.data.columns import Columns
from celery_workers.data.message_reading import CALL_ROLES, READ_KEYS, role_of
from celery_workers.data.row_formats import Detected
from celery_workers.data.rows import SourceRow
from celery_workers.data.spellings import Layout

_EMPTY_LIST = Annotated[list[None], msgspec.Meta(max_length=0)]
_NO_TOOLS = Literal["", "[]"]
_NONE = type(None)
_MESSAGE_KEYS = (("role", "content"), ("from", "value"))
_REMEMBERED_ROLES = 1000
_get_role, _get_content = attrgetter("role"), attrgetter("content")


def can_type(detected: Detected) -> bool:
    """Whether there are types for rows so spelled: plain texts, and conversations."""
    layout = detected.spelling.layout if detected.spelling else None
    return layout is Layout.CHAT or (layout is Layout.PLAIN and not (detected.shape.conversations or detected.shape.flags))


class LineType:
    """The type for what is known of the columns; ``first`` rows show how messages are spelled."""

    def __init__(self, detected: Detected, columns: Columns, first: Sequence[SourceRow]) -> None:
        self._detected = detected
        self._columns = columns
        self._is_chat = bool(detected.shape.conversations)
        self._message = _message_type(_message_keys(detected, first))
        self._roles = _Roles()
        attributes = {name: f"column_{place}" for place, name in enumerate(columns.types)}
        kinds = {name: self._kind(name) for name in columns.types}
        fields = [(attributes[name], *kind) for name, kind in kinds.items() if kind is not None]
        rename = {attribute: name for name, attribute in attributes.items()}
        row = msgspec.defstruct("Row", fields, rename=rename, forbid_unknown_fields=True, gc=False)
        self._get = {name: attrgetter(attributes[name]) for name, kind in kinds.items() if kind is not None}
        self._extras = {name: extra_name(name, detected) for name in columns.types if name not in detected.columns_read}
        self.decode: Callable[[bytes], object] = msgspec.json.Decoder(row).decode
        self.blank: object = row()

    def _kind(self, name: str) -> tuple[Any, object] | None:
        """Return the type of the values of a column that are taken, and what stands where there is none; None where all
        values make their rows odd."""
        if name not in self._detected.columns_read:
            return Any, UNSET
        part = next(part for part, source in self._detected.parts.items() if source == name)
        takes: dict[type, object] = {_NONE: None, str: str}
        if part == "messages":
            takes = {_NONE: None, list: list[self._message]}  # type: ignore[name-defined]
        elif part == "tools":
            takes = {_NONE: None, str: _NO_TOOLS, list: _EMPTY_LIST}
        taken = [takes[kind] for kind in takes if kind in self._columns.types[name]]
        return (Union[tuple(taken)], None) if taken else None  # noqa: UP007 (made of a list)

    def calls(self, rows: Sequence[object]) -> list[int]:
        """Return the positions of rows with a message whose text is a call."""
        conversations = self._values("messages", rows)
        roles = set(map(_get_role, chain.from_iterable(filter(None, conversations))))
        if not roles & CALL_ROLES:
            return []
        return [place for place, messages in enumerate(conversations) if CALL_ROLES & set(map(_get_role, messages or ()))]

    def nested(self, rows: Sequence[object]) -> list[int]:
        """Return the positions of rows with lists or objects in columns beyond the format."""
        found: set[int] = set()
        for name in self._extras:
            kinds = list(map(type, map(self._get[name], rows)))
            if list in kinds or dict in kinds:
                found |= {place for place, kind in enumerate(kinds) if kind in (list, dict)}
        return sorted(found)

    def block(self, numbers: list[int], rows: Sequence[object], odd: Mapping[int, CanonicalRow]) -> Block:
        """Return ``rows``, of this type, in canonical columns; ``odd`` rows stand in for those at their positions."""
        shape = self._detected.shape
        texts = {column: self._texts(column, rows) for column in shape.columns if column not in shape.conversations}
        extras = self._extra_texts(rows)
        for place, row in odd.items():
            for column, values in texts.items():
                values[place] = row.values[column]  # type: ignore[assignment]
            for name, text in row.extras.items():
                extras.setdefault(name, [None] * len(rows))[place] = text
        return Block(
            shape=shape,
            numbers=numbers,
            texts=texts,
            conversations={column: self._conversations(column, rows, odd) for column in shape.conversations},
            extras=extras,
            problems={place: row.problems for place, row in odd.items() if row.problems},
        )

    def _values(self, part: str, rows: Sequence[object]) -> list[Any]:
        get = self._get.get(self._detected.parts.get(part, ""))
        return [None] * len(rows) if get is None else list(map(get, rows))

    def _texts(self, column: str, rows: Sequence[object]) -> Texts:
        # Of tools, the type takes those alone that say there are none.
        return [None] * len(rows) if column == "tools" else self._values(column, rows)

    def _extra_texts(self, rows: Sequence[object]) -> dict[str, Texts]:
        found: dict[str, Texts] = {}
        for name, kept_as in self._extras.items():
            values: list[Any] = list(map(self._get[name], rows))
            kinds = set(map(type, values))
            self._columns.learn(name, kinds - {UnsetType})
            if kinds == {int}:
                values = list(map(str, values))
            elif not kinds <= {str, _NONE}:
                values = [str(value) if type(value) is int else None if value is UNSET else as_text(value) for value in values]
            found[kept_as] = values
        return found

    def _conversations(self, column: str, rows: Sequence[object], odd: Mapping[int, CanonicalRow]) -> Conversations:
        lists = self._values(column, rows)
        for place, text in enumerate(self._values("system", rows)):
            messages = lists[place]
            if text and messages is not None and not (messages and role_of(messages[0].role) == "system"):
                lists[place] = [self._message(role="system", content=text), *messages]
        for place, row in odd.items():
            lists[place] = self._typed(row.values[column])
        flat = list(chain.from_iterable(filter(None, lists)))
        if len(self._roles) > _REMEMBERED_ROLES:
            self._roles.clear()
        found = Conversations(
            counts=[len(messages) if messages else 0 for messages in lists],
            roles=list(map(self._roles.__getitem__, map(_get_role, flat))),
            contents=list(map(_get_content, flat)),
            missing={place for place, messages in enumerate(lists) if messages is None},
        )
        for place, row in odd.items():
            messages = row.values[column]
            for index, message in enumerate(messages if isinstance(messages, list) else ()):
                if len(message) > 2:
                    found.further[found.offsets[place] + index] = message
        return found

    def _typed(self, messages: Value) -> list[Any] | None:
        if not isinstance(messages, list):
            return None
        return [self._message(role=message["role"], content=message["content"]) for message in messages]


def _message_keys(detected: Detected, first: Sequence[SourceRow]) -> tuple[str, str]:
    """Return the keys of role and text that most of the ``first`` messages have."""
    source = detected.parts.get("messages", "")
    columns = [row.values.get(source) for row in first if row.values]
    messages = [messages[0] for messages in columns if isinstance(messages, list) and messages]
    return max(_MESSAGE_KEYS, key=lambda keys: sum(isinstance(message, dict) and keys[0] in message for message in messages))


def _message_type(keys: tuple[str, str]) -> Any:
    """Return the type of messages with a role and a text; other keys that are read may be there and null."""
    others = [key for key in READ_KEYS if key not in keys and key not in ("role", "content", "from", "value")]
    nulls: list[tuple[str, Any, Any]] = [(f"other_{place}", None, None) for place, _ in enumerate(others)]
    rename = {"role": keys[0], "content": keys[1], **{f"other_{place}": key for place, key in enumerate(others)}}
    fields: list[tuple[str, Any]] = [("role", str), ("content", str)]
    return msgspec.defstruct("Message", [*fields, *nulls], rename=rename, forbid_unknown_fields=True, gc=False)


class _Roles(dict[str | None, str | None]):
    """The canonical role of each spelling, looked up once."""

    def __missing__(self, said: str | None) -> str | None:
        self[said] = None if said is None else role_of(said)
        return self[said]
