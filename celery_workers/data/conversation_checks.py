"""Check the order of roles in conversations, and that there is something to learn in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from celery_workers.data.message_reading import Message
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.rows import RowProblem

_ROLES = ("system", "user", "assistant", "tool")
_FOLLOWING: dict[str | None, frozenset[str]] = {
    None: frozenset({"system", "user"}),
    "system": frozenset({"user"}),
    "user": frozenset({"assistant"}),
    "assistant": frozenset({"user"}),
    "assistant with calls": frozenset({"tool"}),
    "tool": frozenset({"tool", "assistant"}),
}
"""The roles that may follow each; None is the beginning."""

Note = Callable[[str, str, str], None]


def check_conversations(number: int, values: dict[str, object], row_format: RowFormat) -> Iterator[RowProblem]:
    """Yield what is wrong with the columns of a row that hold messages."""
    problems: list[RowProblem] = []

    def note(code: str, field: str, message: str) -> None:
        problems.append(RowProblem(row_number=number, code=code, field=field, message=message))

    if row_format is RowFormat.CHAT:
        _check_chat(_messages(values, "messages"), note)
    else:
        answers = ("chosen", "rejected") if row_format is RowFormat.PREFERENCE else ("completion",)
        prompt = _messages(values, "prompt")
        _check_prompt(prompt, note)
        for column in answers:
            _check_answer(column, _messages(values, column), prompt or [], note)
        if row_format is RowFormat.PREFERENCE and values["chosen"] and values["chosen"] == values["rejected"]:
            note("equal_answers", "rejected", "chosen and rejected are the same")
        if row_format is RowFormat.KTO and values["label"] is None:
            note("missing_field", "label", "label is missing")
    yield from problems


def _messages(values: dict[str, object], column: str) -> list[Message] | None:
    messages = values[column]
    return messages if isinstance(messages, list) else None


def _check_chat(messages: list[Message] | None, note: Note) -> None:
    if messages is None:
        note("missing_field", "messages", "messages is missing")
        return
    if not any(message["role"] == "assistant" for message in messages):
        note("no_answer", "messages", "the conversation has no message of the assistant")
        return
    _check_roles("messages", messages, None, note)
    _check_contents("messages", messages, note)
    if messages[-1]["role"] in ("user", "system", "tool"):
        role = messages[-1]["role"]
        note("no_answer", "messages", f"the conversation ends with the {role}, so its last message has no answer")


def _check_prompt(prompt: list[Message] | None, note: Note) -> None:
    if not prompt:
        note("missing_field", "prompt", "prompt is missing" if prompt is None else "prompt has no messages")
        return
    _check_roles("prompt", prompt, None, note)
    _check_contents("prompt", prompt, note)
    if prompt[-1]["role"] not in ("user", "tool"):
        note("role_order", "prompt", f"prompt must end with the user or a tool, got {prompt[-1]['role']}")


def _check_answer(column: str, answer: list[Message] | None, prompt: Sequence[Message], note: Note) -> None:
    if not answer:
        note("missing_field" if answer is None else "no_answer", column, f"{column} is missing")
        return
    before = prompt[-1]["role"] if prompt else "user"
    _check_roles(column, answer, before if before in ("user", "tool") else "user", note)
    _check_contents(column, answer, note)
    if answer[-1]["role"] in ("user", "system", "tool"):
        note("no_answer", column, f"{column} must end with the assistant, got {answer[-1]['role']}")


def _check_roles(column: str, messages: Sequence[Message], before: str | bool | None, note: Note) -> None:
    """Note the first message whose role cannot stand where it does; ``before`` is the role that went before them all."""
    allowed = _FOLLOWING[before]  # type: ignore[index]
    for position, message in enumerate(messages):
        role = message["role"]
        if role not in allowed:
            place = f"{column}[{position}].role"
            if role is None:
                note("missing_field", place, f"{place} is missing")
            elif role not in _ROLES:
                note("role_order", place, f"{place} must be one of {', '.join(_ROLES)}, got {str(role)[:40]!r}")
            else:
                expected = " or ".join(sorted(allowed - {"system"}))
                note("role_order", place, f"{place} must be {expected}, got {role}")
            return
        allowed = _FOLLOWING["assistant with calls" if role == "assistant" and message.get("tool_calls") else role]  # type: ignore[index]


def _check_contents(column: str, messages: Sequence[Message], note: Note) -> None:
    for position, message in enumerate(messages):
        content = message["content"]
        if content is None:
            place = f"{column}[{position}].content"
            note("missing_field", place, f"{place} is missing")
        elif not str(content).strip() and message["role"] not in ("system", "tool") and not message.get("tool_calls"):
            place = f"{column}[{position}].content"
            note("no_answer" if message["role"] == "assistant" else "empty_field", place, f"{place} is empty")
