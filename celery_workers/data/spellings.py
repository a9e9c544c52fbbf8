"""The spellings in which rows come: which columns make up a row, and how its parts become canonical columns.

A new spelling is one entry in ``SPELLINGS``. Sources of the names: the documentation and sample files of LLaMA-Factory,
Axolotl, TRL, OpenAI's fine-tuning API and ShareGPT, and the column names of widely used public datasets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from celery_workers.data.row_formats import RowFormat

ALIASES: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog"),
    "prompt": ("prompt", "question", "query", "problem", "input", "user", "human"),
    "completion": ("completion", "answer", "response", "solution", "output", "reply", "target", "assistant"),
    "instruction": ("instruction",),
    "output": ("output", "response", "answer", "completion"),
    "input": ("input", "context"),
    "system": ("system", "system_prompt"),
    "history": ("history",),
    "tools": ("tools", "functions"),
    "chosen": ("chosen", "preferred_output", "preferred", "accepted", "chosen_response", "response_chosen"),
    "rejected": ("rejected", "non_preferred_output", "dispreferred", "rejected_response", "response_rejected"),
    "label": ("label", "kto_tag"),
    "text": ("text",),
}
"""The names of each part of a row, the most telling first."""

PARTS = frozenset(ALIASES)

_BOOLEAN_TEXTS = frozenset({"true", "false"})


class Kind(StrEnum):
    """What the values of a part may be."""

    ANY = "any"
    TEXT = "text"
    MESSAGES = "messages"
    TRUTH = "truth"


class Layout(StrEnum):
    """How the parts become canonical columns."""

    PLAIN = "plain"
    CHAT = "chat"
    EXCHANGE = "exchange"
    HISTORY = "history"
    PREFERENCE = "preference"
    KTO = "kto"


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """One way of writing a row. ``kinds`` says what values a part must have for the spelling to be meant."""

    name: str
    format: RowFormat
    layout: Layout = Layout.PLAIN
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...]:
        """All parts, the required ones first."""
        return (*self.required, *self.optional)

    def find(
        self, columns: Sequence[str], mapping: Mapping[str, str], rows: Sequence[Mapping[str, object]]
    ) -> dict[str, str] | None:
        """Return the source column of every part that is there, or nothing where the spelling does not fit."""
        taken = {
            part: mapping[part]
            for part in self.parts
            if part in mapping and (self._kind(part) is not Kind.MESSAGES or _holds(Kind.MESSAGES, mapping[part], part, rows))
        }
        for part in self.parts:
            if part not in mapping:
                self._find_part(part, columns, taken, rows)
        if any(part not in taken for part in self.required):
            return None
        return {part: taken[part] for part in self.parts if part in taken}

    def _find_part(
        self, part: str, columns: Sequence[str], taken: dict[str, str], rows: Sequence[Mapping[str, object]]
    ) -> None:
        used = set(taken.values())
        kind = self._kind(part)
        for name in self.names.get(part, ALIASES[part]):
            named = [column for column in columns if column.strip().lower() == name and column not in used]
            for column in sorted(named, key=lambda column: column != name):
                if _holds(kind, column, name, rows):
                    taken[part] = column
                    return

    def _kind(self, part: str) -> Kind:
        return self.kinds.get(part, Kind.ANY)


def _holds(kind: Kind, column: str, name: str, rows: Sequence[Mapping[str, object]]) -> bool:
    """Whether the first values of ``column`` are of ``kind``; where there are none, only a name that says it suffices."""
    values = [value for row in rows if (value := row.get(column)) is not None]
    if kind is Kind.ANY:
        return True
    if kind is Kind.TRUTH:
        return bool(values) and all(isinstance(value, bool) or str(value).strip().lower() in _BOOLEAN_TEXTS for value in values)
    if not values:
        return name in ("messages", "conversations") or kind is Kind.TEXT
    is_like: Callable[[object], bool] = _is_like_messages if kind is Kind.MESSAGES else _is_no_messages
    return any(map(is_like, values)) or (kind is Kind.MESSAGES and name == "messages")


def _is_like_messages(value: object) -> bool:
    if isinstance(value, str):
        return value.lstrip().startswith("[")  # CSV has no lists, so a conversation stands there as JSON
    return isinstance(value, list) and (not value or isinstance(value[0], dict))


def _is_no_messages(value: object) -> bool:
    return not isinstance(value, list | dict)


_MESSAGES = {"messages": Kind.MESSAGES}
_PREFERENCE = {"format": RowFormat.PREFERENCE, "layout": Layout.PREFERENCE}
_KTO = {"format": RowFormat.KTO, "layout": Layout.KTO}
_CHAT_EXTRAS = ("system", "tools")
_QUESTION = ("prompt", "question", "query", "instruction", "problem")
_EXACT = {"prompt": ("prompt",), "completion": ("completion",)}

SPELLINGS: tuple[Spelling, ...] = (
    Spelling(
        name="preference", required=("chosen", "rejected"), optional=("prompt", "input", *_CHAT_EXTRAS),
        names={"prompt": (*_QUESTION, "input", "conversations", "messages")}, kinds={"input": Kind.TEXT},
        **_PREFERENCE,
    ),
    Spelling(
        name="kto", required=("prompt", "completion", "label"), optional=("input", *_CHAT_EXTRAS),
        names={"prompt": _QUESTION}, kinds={"label": Kind.TRUTH, "input": Kind.TEXT}, **_KTO,
    ),
    Spelling(
        name="kto conversation", required=("messages", "label"), optional=_CHAT_EXTRAS,
        kinds={"label": Kind.TRUTH, **_MESSAGES}, **_KTO,
    ),
    Spelling(
        name="chat", format=RowFormat.CHAT, layout=Layout.CHAT, required=("messages",), optional=_CHAT_EXTRAS,
        names={"messages": ("messages",)}, kinds=_MESSAGES,
    ),
    Spelling(
        name="ShareGPT", format=RowFormat.CHAT, layout=Layout.CHAT, required=("messages",), optional=_CHAT_EXTRAS,
        kinds=_MESSAGES,
    ),
    Spelling(
        name="alpaca with history", format=RowFormat.CHAT, layout=Layout.HISTORY,
        required=("instruction", "output", "history"), optional=("input", "system", "tools"),
    ),
    Spelling(name="alpaca", format=RowFormat.ALPACA, required=("instruction", "output"), optional=("input", "system")),
    Spelling(
        name="prompt and completion messages", format=RowFormat.CHAT, layout=Layout.EXCHANGE,
        required=("prompt", "completion"), optional=_CHAT_EXTRAS,
        names=_EXACT,
        kinds={"prompt": Kind.MESSAGES, "completion": Kind.MESSAGES},
    ),
    Spelling(
        name="question and answer with a system text", format=RowFormat.CHAT, layout=Layout.EXCHANGE,
        required=("prompt", "completion", "system"), optional=("tools",),
    ),
    Spelling(
        name="prompt_completion", format=RowFormat.PROMPT_COMPLETION, required=("prompt", "completion"), names=_EXACT
    ),
    Spelling(name="question and answer", format=RowFormat.PROMPT_COMPLETION, required=("prompt", "completion")),
    Spelling(name="text", format=RowFormat.TEXT, required=("text",)),
)  # fmt: skip
"""In the order in which they are tried: the more a spelling asks for, the earlier."""
