"""From the parts of a row, as its spelling names them, to the canonical columns of its format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from celery_workers.data.formats.json_values import type_name
from celery_workers.data.message_reading import Message, MessageReader
from celery_workers.data.row_formats import Detected
from celery_workers.data.rows import RowProblem, SourceRow
from celery_workers.data.spellings import Layout
from celery_workers.data.transcripts import read_question, read_transcript

Value = str | bool | list[Message] | None
Parts = Mapping[str, object]

_TRUTHS = {"true": True, "false": False, "1": True, "0": False}


def lay_out(row: SourceRow, detected: Detected, problems: list[RowProblem]) -> dict[str, Value]:
    """Return the canonical columns of a row that could be read; what is wrong with its values goes to ``problems``."""
    source = row.values or {}
    reader = MessageReader(row.number, problems)
    layout = detected.spelling.layout if detected.spelling else Layout.PLAIN
    if layout is Layout.PLAIN:
        return _plain(source, detected, reader)
    parts = {part: source.get(column) for part, column in detected.parts.items()}
    return _LAYOUTS[layout](parts, reader)


def _plain(source: Mapping[str, object], detected: Detected, reader: MessageReader) -> dict[str, Value]:
    shape, parts = detected.shape, detected.parts
    values: dict[str, Value] = {}
    for column in shape.columns:
        value = source.get(parts[column]) if column in parts else None
        if value is None or (type(value) is str and column not in shape.conversations and column not in shape.flags):
            values[column] = value
        elif column in shape.conversations:
            values[column] = reader.messages(column, value)
        elif column in shape.flags:
            values[column] = _truth(value, reader)
        elif column == "tools":
            values[column] = _tools(value, reader)
        else:
            values[column] = reader.text(column, value)
    return values


def _chat(parts: Parts, reader: MessageReader) -> dict[str, Value]:
    messages = reader.messages("messages", parts["messages"])
    return {"messages": _with_system(messages, parts, reader), "tools": _tools(parts.get("tools"), reader)}


def _exchange(parts: Parts, reader: MessageReader) -> dict[str, Value]:
    """A prompt and its completion, as messages or as text. Answers within the prompt are not to be learned."""
    prompt = _question("prompt", parts["prompt"], parts, reader)
    completion = _as_messages("completion", parts["completion"], "assistant", reader)
    if prompt is None or completion is None:
        messages: list[Message] | None = None
        absent = "prompt" if prompt is None else "completion"
        if parts[absent] is None:
            reader.note("missing_field", absent, f"{absent} is missing")
    else:
        given = [{**message, "train": False} if message["role"] == "assistant" else message for message in prompt]
        messages = [*given, *completion]
    return {"messages": messages, "tools": _tools(parts.get("tools"), reader)}


def _history(parts: Parts, reader: MessageReader) -> dict[str, Value]:
    """An instruction after earlier exchanges, each a pair of question and answer."""
    history = parts["history"]
    if isinstance(history, str):
        try:
            history = json.loads(history)
        except (ValueError, RecursionError):
            history = "text that is not JSON"
    messages: list[Message] = []
    if history is None or (isinstance(history, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in history)):
        for position, (question, answer) in enumerate(history or []):
            messages.append({"role": "user", "content": reader.text(f"history[{position}][0]", question)})
            messages.append({"role": "assistant", "content": reader.text(f"history[{position}][1]", answer)})
    else:
        reader.note("wrong_type", "history", "history must be a list of pairs of question and answer")
    question = _question("instruction", parts["instruction"], parts, reader, has_system=False)
    answer = _as_messages("output", parts["output"], "assistant", reader)
    absent = "instruction" if question is None else "output"
    if question is None or answer is None:
        if parts[absent] is None:
            reader.note("missing_field", absent, f"{absent} is missing")
        return {"messages": None, "tools": None}
    conversation = _with_system([*messages, *question, *answer], parts, reader)
    return {"messages": conversation, "tools": _tools(parts.get("tools"), reader)}


def _preference(parts: Parts, reader: MessageReader) -> dict[str, Value]:
    """Two answers to one prompt. Where both are whole conversations, what they begin with in common is the prompt."""
    transcripts = read_transcript(parts["chosen"]), read_transcript(parts["rejected"])
    answers = transcripts if all(transcripts) else (parts["chosen"], parts["rejected"])
    chosen = _as_messages("chosen", answers[0], "assistant", reader)
    rejected = _as_messages("rejected", answers[1], "assistant", reader)
    given = parts.get("prompt")
    tools = parts.get("tools")
    if isinstance(given, Mapping) and "messages" in given:  # as OpenAI writes it
        given, tools = given["messages"], given.get("tools", tools)
    prompt = _question("prompt", read_question(given) or given, parts, reader)
    if chosen and rejected and (chosen[0]["role"] != "assistant" or rejected[0]["role"] != "assistant"):
        shared = _shared(chosen, rejected)
        if prompt and _contents(prompt)[-1] not in _contents(chosen[:shared]):
            message = "prompt is not among the messages with which chosen and rejected begin"
            reader.note("wrong_type", "prompt", message, "Let both conversations begin with the prompt, or hold answers only.")
        prompt = _with_system(chosen[:shared], parts, reader)
        chosen, rejected = chosen[shared:], rejected[shared:]
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "tools": _tools(tools, reader)}


def _kto(parts: Parts, reader: MessageReader) -> dict[str, Value]:
    """A prompt, one answer to it, and whether that is wanted. Of a conversation, the last answer is judged."""
    prompt: list[Message] | None
    completion: list[Message] | None
    if "messages" in parts:
        messages = _with_system(reader.messages("messages", parts["messages"]), parts, reader)
        ends = bool(messages) and messages[-1]["role"] == "assistant"
        prompt, completion = (messages[:-1], messages[-1:]) if messages and ends else (messages, None)
    else:
        prompt = _question("prompt", read_question(parts["prompt"]) or parts["prompt"], parts, reader)
        completion = _as_messages("completion", parts["completion"], "assistant", reader)
    label = _truth(parts["label"], reader)
    return {"prompt": prompt, "completion": completion, "label": label, "tools": _tools(parts.get("tools"), reader)}


_LAYOUTS: dict[Layout, Callable[[Parts, MessageReader], dict[str, Value]]] = {
    Layout.CHAT: _chat,
    Layout.EXCHANGE: _exchange,
    Layout.HISTORY: _history,
    Layout.PREFERENCE: _preference,
    Layout.KTO: _kto,
}


def _question(
    field: str, value: object, parts: Parts, reader: MessageReader, *, has_system: bool = True
) -> list[Message] | None:
    """Return what is asked as messages: the further input, if any, follows the text after a blank line."""
    further = reader.text("input", parts.get("input"))
    if isinstance(value, str) and further and not value.lstrip().startswith("["):
        value = f"{value}\n\n{further}"
    messages = _as_messages(field, value, "user", reader)
    return _with_system(messages, parts, reader) if has_system else messages


def _as_messages(field: str, value: object, role: str, reader: MessageReader) -> list[Message] | None:
    """Return text as one message of ``role``; a message as a list of it."""
    if isinstance(value, Mapping):
        return [reader.message(field, value)]
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return reader.messages(field, value)


def _with_system(messages: list[Message] | None, parts: Parts, reader: MessageReader) -> list[Message] | None:
    system = parts.get("system")
    if system is None or system == "" or messages is None or (messages and messages[0]["role"] == "system"):
        return messages
    return [{"role": "system", "content": reader.text("system", system)}, *messages]


def _shared(chosen: list[Message], rejected: list[Message]) -> int:
    """Return how many messages two conversations begin with in common, leaving each an answer."""
    count = 0
    for one, other in zip(chosen[:-1], rejected[:-1], strict=False):
        if one != other:
            break
        count += 1
    return count


def _contents(messages: list[Message]) -> list[object]:
    return [message["content"] for message in messages]


def _tools(value: object, reader: MessageReader) -> str | None:
    """Return the tools that may be called, as the JSON text of a list."""
    if value is None or value in ("", "[]", []):
        return None
    decoded = value
    if isinstance(value, str):
        try:
            decoded = json.loads(value)
        except (ValueError, RecursionError):
            decoded = None
    if isinstance(decoded, list) and all(isinstance(tool, Mapping) for tool in decoded):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    reader.note("wrong_type", "tools", f"tools must be a list of objects, or its JSON, got {type_name(value)}")
    return None


def _truth(value: object, reader: MessageReader) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    said = _TRUTHS.get(str(value).strip().lower())
    if said is None:
        reader.note("wrong_type", "label", f"label must be true or false, got {str(value)[:40]!r}")
    return said
