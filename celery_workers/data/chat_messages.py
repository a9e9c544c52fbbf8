"""From the canonical columns of a row to a conversation: messages, tools, and which of the messages are trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from celery_workers.data.canonical import Value
from celery_workers.data.chat_rendering import Conversation, RowRefused
from celery_workers.data.row_formats import RowFormat

ChatMessage = dict[str, object]

_PASSED_ON = ("name", "tool_call_id", "reasoning_content")
"""Keys of a message that templates read as they are."""


def to_messages(values: Mapping[str, Value], row_format: RowFormat, *, system_prompt: str = "") -> list[ChatMessage]:
    """Return a row as chat messages; ``system_prompt`` goes before rows that have no system message of their own.

    An alpaca row's input follows its instruction after a blank line.
    """
    messages: list[ChatMessage]
    if row_format is RowFormat.CHAT:
        messages = [_message(message) for message in _listed(values.get("messages"))]
    elif row_format is RowFormat.ALPACA:
        question = "\n\n".join(part for part in (text_of(values, "instruction"), text_of(values, "input")) if part)
        messages = _exchange(question, text_of(values, "output"), text_of(values, "system"))
    else:
        messages = _exchange(text_of(values, "prompt"), text_of(values, "completion"), "")
    if system_prompt and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system_prompt})
    return messages


def to_conversation(
    values: Mapping[str, Value],
    row_format: RowFormat,
    *,
    system_prompt: str = "",
    train_on_roles: Sequence[str] = ("assistant",),
) -> Conversation:
    """Return a row as a conversation. What a message says itself (``train``) goes before its role.

    Raises: RowRefused: tools or tool calls are not JSON.
    """
    messages = to_messages(values, row_format, system_prompt=system_prompt)
    said = [message.get("train") for message in _listed(values.get("messages"))]
    said = [None] * (len(messages) - len(said)) + said  # a system prompt may have been put before them
    trained = [
        position
        for position, (message, flag) in enumerate(zip(messages, said, strict=True))
        if (message["role"] in train_on_roles if flag is None else flag)
    ]
    return Conversation(messages, trained, _tools(values.get("tools")))


def text_of(values: Mapping[str, Value], column: str) -> str:
    """Return the text of a column; empty where there is none."""
    value = values.get(column)
    return value if isinstance(value, str) else ""


def _exchange(question: str, answer: str, system: str) -> list[ChatMessage]:
    messages: list[ChatMessage] = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [{"role": "system", "content": system}, *messages] if system else messages


def _listed(value: object) -> list[Mapping[str, object]]:
    return value if isinstance(value, list) else []


def _message(message: Mapping[str, object]) -> ChatMessage:
    """Return a message as templates take it: with content, if an empty one, and without other keys that say nothing."""
    made: ChatMessage = {"role": message.get("role") or "", "content": message.get("content") or ""}
    if calls := message.get("tool_calls"):
        made["tool_calls"] = [_with_arguments(call) for call in _parsed(calls, "tool_calls")]
    return made | {key: message[key] for key in _PASSED_ON if message.get(key)}


def _with_arguments(call: object) -> object:
    """Return a tool call whose arguments are an object: APIs write them as JSON text, templates would quote that again."""
    if not isinstance(call, dict):
        raise RowRefused("broken_tools", "tool_calls must be a list of objects")
    function = call.get("function")
    target = function if isinstance(function, dict) else call
    arguments = target.get("arguments")
    if isinstance(arguments, str):
        try:
            parsed = json.loads(arguments)
        except (ValueError, RecursionError):
            return call
        if isinstance(parsed, dict):
            target = {**target, "arguments": parsed}
    return {**call, "function": target} if isinstance(function, dict) else {"type": "function", "function": target}


def _tools(value: object) -> list[object]:
    return _parsed(value, "tools") if value else []


def _parsed(value: object, name: str) -> list[object]:
    """Return a list that may stand as JSON text.

    Raises: RowRefused: it is something else.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RowRefused("broken_tools", f"{name} must be a list, or JSON of one") from error
    if not isinstance(value, list):
        raise RowRefused("broken_tools", f"{name} must be a list, or JSON of one")
    return value
