"""Render a conversation and find what is trained in it by prefix difference; refuse what would teach something else.

An answer is what the template adds to the conversation before it, the generation prompt included, when the answer joins:
exactly what the model must write at inference. Of the other roles it is the content with what closes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Message = Mapping[str, object]
Span = tuple[int, int]

_MAX_RENDERED_CHARACTERS = 16_000_000


class RowRefused(Exception):
    """A row that must not be trained on as it would come out; ``code`` and the text say why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Conversation:
    """Messages as chat templates take them; ``trained`` are the positions of those that the model learns to write."""

    messages: list[dict[str, object]]
    trained: list[int]
    tools: list[object] = field(default_factory=list)


@dataclass(frozen=True)
class Rendered:
    """Text and its trained parts: ``text[start:end]`` of ``answers`` is what the model must write, its end-of-turn included;
    ``others`` are trained parts of other roles, which may have no end-of-turn of their own."""

    text: str
    answers: list[Span]
    others: list[Span] = field(default_factory=list)


Apply = Callable[[Sequence[Message], bool], str]
"""Render messages, with the generation prompt or without."""


def render_conversation(apply: Apply, conversation: Conversation, *, end_of_text: str = "") -> Rendered:
    """Return the text of a conversation and its trained parts.

    ``apply`` raises what the template raises. ``end_of_text`` is what some templates (Phi-3's) write behind the last
    message only; without it, no conversation of theirs would begin a longer one.

    Raises: RowRefused: the text before an answer changes when the answer joins, a content is lost, or it is too long.
    """
    messages = conversation.messages
    text = apply(messages, False)
    if len(text) > _MAX_RENDERED_CHARACTERS:
        raise RowRefused("template_too_large", f"the chat template makes more than {_MAX_RENDERED_CHARACTERS} characters of it")
    _check_nothing_is_lost(conversation, text)
    rendered = Rendered(text, [])
    for position in conversation.trained:
        message = messages[position]
        start, end = _added(apply, messages, position, text, end_of_text)
        if message["role"] == "assistant":
            _check_answer(message, position, text[start:end])
            rendered.answers.append((start, end))
        else:
            rendered.others.extend(_content_span(message, text, start, end))
    return rendered


def _added(apply: Apply, messages: Sequence[Message], position: int, text: str, end_of_text: str) -> Span:
    """Return the part of ``text`` that the message at ``position`` adds to those before it.

    Raises: RowRefused: what stands before it is not what stood there without it.
    """
    is_answer = messages[position]["role"] == "assistant"
    before = apply(messages[:position], is_answer) if position or is_answer else ""
    if not is_answer:
        before = _without_end(before, end_of_text, text)
    is_last = position == len(messages) - 1
    after = text if is_last else _without_end(apply(messages[: position + 1], False), end_of_text, text)
    if not (text.startswith(after) and after.startswith(before)):
        reason = "the chat template does not keep the text before an answer as it was when the answer is added"
        raise RowRefused("template_not_prefix_preserving", f"{reason} (message {position})")
    return len(before), len(after)


def _without_end(part: str, end_of_text: str, text: str) -> str:
    """Return ``part``, without the end-of-text behind it where the whole text goes on instead."""
    return part if not end_of_text or text.startswith(part) else part.removesuffix(end_of_text)


def _content_span(message: Message, text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the place from the content of a message to the end of what the template adds for it; nothing if it is empty."""
    content = str(message.get("content") or "").strip()
    position = text.rfind(content, start, end) if content else -1
    if position >= 0:
        yield position, end


def _check_nothing_is_lost(conversation: Conversation, text: str) -> None:
    for position, message in enumerate(conversation.messages):
        content = str(message.get("content") or "").strip()
        if content not in text and _as_json(content) not in text:
            raise _lost(f"the content of message {position} ({message['role']})")
        _check_calls(message, position, text)
    for tool in conversation.tools:
        name = _tool_name(tool)
        if name not in text:
            raise _lost(f"the tool {name}; choose a template that writes tools")


def _lost(what: str) -> RowRefused:
    return RowRefused("content_lost", f"the chat template drops or changes {what}")


def _check_answer(message: Message, position: int, text: str) -> None:
    """Check what an answer has beside its content; earlier turns may do without their thoughts."""
    _check_calls(message, position, text)
    thought = str(message.get("reasoning_content") or "").strip()
    if thought not in text:
        raise _lost(f"the reasoning_content of message {position}")


def _check_calls(message: Message, position: int, text: str) -> None:
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        name, arguments = _tool_name(call), call["function"].get("arguments")
        values = arguments.values() if isinstance(arguments, dict) else [arguments]
        said = [name, *(value for value in values if isinstance(value, str))]
        if any(value not in text and _as_json(value) not in text for value in said):
            raise _lost(f"the call of {name} in message {position}")


def _tool_name(tool: object) -> str:
    if not isinstance(tool, Mapping):
        return ""
    function = tool.get("function")
    return str((function if isinstance(function, Mapping) else tool).get("name") or "")


def _as_json(content: str) -> str:
    """Return how a content stands in a text that writes it as JSON (Llama 3.1 does so with what tools answer)."""
    return json.dumps(content, ensure_ascii=False)[1:-1]
