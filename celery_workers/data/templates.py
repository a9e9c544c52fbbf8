"""From a row to the text that is tokenized, with the places of the answers in it.

``model`` is the model's own chat template, run in the immutable sandbox of transformers; ``alpaca`` and ``chatml`` are
fixed texts; rows of the format text take no template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from celery_workers.contract.errors import UserInputError
from celery_workers.data.canonical import Value, messages_of
from celery_workers.data.row_formats import RowFormat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ChatMessage = dict[str, str]


class RowRefused(Exception):
    """A row that must not be trained on as it would come out; ``code`` and the text say why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Rendered:
    """Text and its answers: ``text[start:end]`` is what the model must write, its end-of-turn included."""

    text: str
    answers: list[tuple[int, int]]


class Template(Protocol):
    """Turns the canonical columns of a row into text."""

    name: str
    adds_special_tokens: bool
    """Whether the tokenizer's own beginning tokens go before the text; a chat template writes them itself."""

    def render(self, values: Mapping[str, Value], row_format: RowFormat) -> Rendered:
        """Return the text of a row.

        Raises: RowRefused: the template cannot say the row without loss.
        """


def to_messages(values: Mapping[str, Value], row_format: RowFormat, *, system_prompt: str = "") -> list[ChatMessage]:
    """Return a row as chat messages; ``system_prompt`` goes before rows that have no system message of their own.

    An alpaca row's input follows its instruction after a blank line.
    """
    messages: list[ChatMessage]
    if row_format is RowFormat.CHAT:
        messages = [{name: item or "" for name, item in message.items()} for message in messages_of(values) or []]
    elif row_format is RowFormat.ALPACA:
        question = "\n\n".join(part for part in (_text(values, "instruction"), _text(values, "input")) if part)
        messages = _exchange(question, _text(values, "output"), _text(values, "system"))
    else:
        messages = _exchange(_text(values, "prompt"), _text(values, "completion"), "")
    if system_prompt and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system_prompt})
    return messages


class ModelTemplate:
    """The chat template that came with the model. Answers are found by prefix difference: what the template adds to the
    conversation before an answer, its generation prompt included, when the answer joins."""

    name = "model"
    adds_special_tokens = False

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, system_prompt: str = "") -> None:
        if not tokenizer.chat_template:
            message = "the model has no chat template of its own; choose the template alpaca"
            raise UserInputError(message, code="no_chat_template", field="template")
        self._tokenizer = tokenizer
        self._system_prompt = system_prompt

    def render(self, values: Mapping[str, Value], row_format: RowFormat) -> Rendered:
        messages = to_messages(values, row_format, system_prompt=self._system_prompt)
        text = self._apply(messages)
        answers: list[tuple[int, int]] = []
        for position, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._apply(messages[:position], generation_prompt=True)
            after = text if position == len(messages) - 1 else self._apply(messages[: position + 1])
            if not (text.startswith(after) and after.startswith(before)):
                reason = "the chat template does not keep the text before an answer as it was when the answer is added"
                raise RowRefused("template_not_prefix_preserving", f"{reason} (message {position})")
            answers.append((len(before), len(after)))
        _check_nothing_is_lost(messages, text)
        return Rendered(text, answers)

    def _apply(self, messages: Sequence[ChatMessage], *, generation_prompt: bool = False) -> str:
        from jinja2 import TemplateError

        try:
            text = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=generation_prompt)
        except TemplateError as error:
            raise RowRefused("template_error", f"the chat template refuses the conversation: {error}") from error
        return str(text)


class AlpacaTemplate:
    """Instruction, input and response under headings; the answer ends with the end-of-text token.

    A row's system text takes the place of the preamble. It has room for one question and one answer.
    Source: Taori et al. 2023, https://github.com/tatsu-lab/stanford_alpaca.
    """

    name = "alpaca"
    adds_special_tokens = True
    _WITH_INPUT = (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request."
    )
    _WITHOUT_INPUT = "Below is an instruction that describes a task. Write a response that appropriately completes the request."

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, system_prompt: str = "") -> None:
        self._end = _end_of_text(tokenizer)
        self._system_prompt = system_prompt

    def render(self, values: Mapping[str, Value], row_format: RowFormat) -> Rendered:
        if row_format is RowFormat.ALPACA:
            names = ("system", "instruction", "input", "output")
            system, question, context, answer = (_text(values, name) for name in names)
        else:
            messages = to_messages(values, row_format)
            system = messages.pop(0)["content"] if messages[0]["role"] == "system" else ""
            if len(messages) != 2:
                count = len(messages)
                raise RowRefused(
                    "too_many_turns", f"the alpaca template has room for one question and answer, got {count} messages"
                )
            question, context, answer = messages[0]["content"], "", messages[1]["content"]
        preamble = system or self._system_prompt or (self._WITH_INPUT if context else self._WITHOUT_INPUT)
        input_part = f"### Input:\n{context}\n\n" if context else ""
        prompt = f"{preamble}\n\n### Instruction:\n{question}\n\n{input_part}### Response:\n"
        text = f"{prompt}{answer}{self._end}"
        return Rendered(text, [(len(prompt), len(text))])


class ChatmlTemplate:
    """``<|im_start|>role``, the content, ``<|im_end|>``; for models that know these two tokens."""

    name = "chatml"
    adds_special_tokens = True

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, system_prompt: str = "") -> None:
        known = tokenizer.get_added_vocab()
        if missing := [token for token in ("<|im_start|>", "<|im_end|>") if token not in known]:
            message = f"the template chatml needs {' and '.join(missing)} in the model's vocabulary; choose model or alpaca"
            raise UserInputError(message, code="template_needs_tokens", field="template")
        self._system_prompt = system_prompt

    def render(self, values: Mapping[str, Value], row_format: RowFormat) -> Rendered:
        text, answers = "", []
        for message in to_messages(values, row_format, system_prompt=self._system_prompt):
            text += f"<|im_start|>{message['role']}\n"
            start = len(text)
            text += f"{message['content']}<|im_end|>"
            if message["role"] == "assistant":
                answers.append((start, len(text)))
            text += "\n"
        return Rendered(text, answers)


class PlainText:
    """The text as it is, and the end-of-text token; every token is trained."""

    name = "none"
    adds_special_tokens = True

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._end = _end_of_text(tokenizer)

    def render(self, values: Mapping[str, Value], row_format: RowFormat) -> Rendered:  # noqa: ARG002 (the protocol's)
        text = f"{values['text']}{self._end}"
        return Rendered(text, [(0, len(text))])


TEMPLATES = {template.name: template for template in (ModelTemplate, AlpacaTemplate, ChatmlTemplate)}


def choose_template(
    name: str, row_format: RowFormat, tokenizer: PreTrainedTokenizerBase, *, system_prompt: str = ""
) -> Template:
    """Return the template called ``name``; rows of the format text take none.

    Raises: UserInputError: the model lacks what the template needs.
    """
    if row_format is RowFormat.TEXT:
        return PlainText(tokenizer)
    return TEMPLATES[name](tokenizer, system_prompt=system_prompt)


def _exchange(question: str, answer: str, system: str) -> list[ChatMessage]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [{"role": "system", "content": system}, *messages] if system else messages


def _text(values: Mapping[str, Value], column: str) -> str:
    value = values.get(column)
    return value if isinstance(value, str) else ""


def _check_nothing_is_lost(messages: Sequence[ChatMessage], text: str) -> None:
    for position, message in enumerate(messages):
        if message["content"].strip() not in text:
            reason = f"the chat template drops or changes the content of message {position} ({message['role']})"
            raise RowRefused("content_lost", reason)


def _end_of_text(tokenizer: PreTrainedTokenizerBase) -> str:
    if not tokenizer.eos_token:
        message = "the model's tokenizer has no end-of-text token, so no answer could ever end"
        raise UserInputError(message, code="no_end_of_text", field="base_model")
    return str(tokenizer.eos_token)
