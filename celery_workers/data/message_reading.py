"""Bring messages, however they are spelled, to the canonical form.

A canonical message has ``role`` (system, user, assistant, tool) and ``content``, and only where they say something:
``name``, ``reasoning_content``, ``tool_calls`` (JSON text: a list as OpenAI writes it), ``tool_call_id``, and ``train``
(whether the message is learned, where it says so itself).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from celery_workers.data.formats.json_values import type_name
from celery_workers.data.rows import RowProblem

if TYPE_CHECKING:
    from collections.abc import Mapping

Message = dict[str, str | bool | None]

TEXT_KEYS = ("role", "content", "name", "reasoning_content", "tool_calls", "tool_call_id")
"""Keys of a message whose values are text; ``train`` is the only other one."""

_ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "bing": "assistant", "bard": "assistant", "claude": "assistant", "ai": "assistant",
    "tool": "tool", "observation": "tool", "function": "tool", "ipython": "tool", "function_response": "tool",
    "tool_response": "tool",
}  # fmt: skip
CALL_ROLES = frozenset({"function_call", "tool_call"})
_CANONICAL_ROLES = ("user", "assistant", "system", "tool")
READ_KEYS = frozenset({*TEXT_KEYS, "from", "value", "function_call", "train", "weight"})
_NO_JSON = object()


class MessageReader:
    """Reads the messages of one row, and notes what is wrong with them."""

    def __init__(self, number: int, problems: list[RowProblem]) -> None:
        self._number = number
        self._problems = problems

    def note(self, code: str, field: str, message: str, fix: str = "") -> None:
        """Add a problem."""
        self._problems.append(RowProblem(row_number=self._number, code=code, field=field, message=message, fix=fix))

    def text(self, field: str, value: object) -> str | None:
        """Return ``value`` if it is text; anything else but null is a problem."""
        if value is None or isinstance(value, str):
            return value
        fix = f"Write it as text: {json.dumps(str(value))}." if isinstance(value, int | float) else ""
        self.note("wrong_type", field, f"{field} must be text, got {type_name(value)}", fix)
        return None

    def messages(self, field: str, value: object) -> list[Message] | None:
        """Return a list of messages, made of the given one; text is read as the JSON of one."""
        if value is None:
            return None
        if isinstance(value, str):
            value = _decode(value)  # CSV has no lists, so a conversation stands there as JSON
        if not isinstance(value, list):
            got = "text that is not JSON" if value is _NO_JSON else type_name(value)
            self.note("wrong_type", field, f"{field} must be a list of objects with role and content, got {got}")
            return None
        for position, item in enumerate(value):
            # The common case needs no reading, and this loop is most of the time that conversations take.
            if (
                type(item) is dict
                and len(item) == 2
                and type(item.get("content")) is str
                and item.get("role") in _CANONICAL_ROLES
            ):
                continue
            value[position] = self.message(f"{field}[{position}]", item)
        return value

    def message(self, field: str, value: object) -> Message:
        """Return one message; nulls stand where it says nothing usable."""
        if not isinstance(value, dict):
            self.note("wrong_type", field, f"{field} must be an object with role and content, got {type_name(value)}")
            return {"role": None, "content": None}
        unused = sorted(str(key) for key, item in value.items() if key not in READ_KEYS and item is not None)
        if unused:
            self.note("unused_key", field, f"{field} has {', '.join(unused[:10])}, which is not trained on")
        said = self.text(f"{field}.role", value.get("role", value.get("from")))
        content = self._content(f"{field}.content", value.get("content", value.get("value")))
        role = said if said is None else role_of(said)
        message: Message = {"role": role, "content": content}
        if said in CALL_ROLES:
            message["role"] = "assistant"
            self._take_call_of_content(field, message)
        for key in ("name", "reasoning_content", "tool_call_id"):
            if (text := self.text(f"{field}.{key}", value.get(key))) is not None:
                message[key] = text
        self._add_calls(field, value, message)
        if (is_trained := self._is_trained(field, value)) is not None:
            message["train"] = is_trained
        return message

    def _content(self, field: str, value: object) -> str | None:
        """Return text; parts of text (``[{"type": "text", "text": …}]``) are joined."""
        if not isinstance(value, list):
            return self.text(field, value)
        texts = [part.get("text") if isinstance(part, dict) else None for part in value]
        if not all(isinstance(text, str) for text in texts):
            kinds = sorted({str(part.get("type"))[:40] if isinstance(part, dict) else type_name(part) for part in value})
            message = f"{field} must be text or parts of text, got parts of the type {', '.join(kinds[:10])}"
            self.note("wrong_type", field, message)
            return None
        return "".join(map(str, texts))

    def _take_call_of_content(self, field: str, message: Message) -> None:
        """Take the call that ShareGPT writes as the text of a message of its own."""
        decoded = _decode(str(message["content"]))
        calls = decoded if isinstance(decoded, list) else [decoded]
        if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
            place = f"{field}.content"
            self.note("wrong_type", place, f"{place} must be the JSON of a call with name and arguments")
            return
        message["content"] = ""
        message["tool_calls"] = _as_calls(calls)

    def _add_calls(self, field: str, value: Mapping[str, object], message: Message) -> None:
        calls = value.get("tool_calls")
        if calls is None and isinstance(value.get("function_call"), dict):
            calls = [value["function_call"]]
        if isinstance(calls, str):
            calls = _decode(calls)
        if calls is None or calls == []:
            return
        if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
            place = f"{field}.tool_calls"
            self.note("wrong_type", place, f"{place} must be a list of objects with a function, its name and its arguments")
            return
        message["tool_calls"] = _as_calls(calls)
        message["content"] = message["content"] or ""

    def _is_trained(self, field: str, value: Mapping[str, object]) -> bool | None:
        for key in ("train", "weight"):
            said = value.get(key)
            if said is None:
                continue
            if isinstance(said, bool | int | float) and said in (0, 1):
                return bool(said)
            place = f"{field}.{key}"
            self.note("wrong_type", place, f"{place} must be 0 or 1, or false or true, got {type_name(said)}")
        return None


def role_of(said: str) -> str:
    """Return the canonical role that ``said`` is a spelling of; itself where it is none."""
    return _ROLES.get(said.strip().lower(), said)


def _as_calls(calls: list[dict[str, object]]) -> str:
    """Return calls as JSON text, each as OpenAI writes it: ``{"type": "function", "function": {"name", "arguments"}}``."""
    wrapped = [call if "function" in call else {"type": "function", "function": call} for call in calls]
    return json.dumps(wrapped, ensure_ascii=False)


def _decode(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NO_JSON
