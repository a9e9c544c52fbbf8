"""From rows to the text that is tokenized, with the places of what is trained in it.

``model`` is the model's own chat template; ``custom`` is a text of the user's; the named ones are files in
``chat_templates``, written after the published form of their model families. All of these run in a process of their own
that bounds their time and memory. ``alpaca`` is a fixed text with room for one question and answer; rows of the format text
take no template.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from celery_workers.contract.errors import UserInputError
from celery_workers.data.canonical import Value
from celery_workers.data.chat_messages import text_of, to_conversation, to_messages
from celery_workers.data.chat_rendering import Conversation, Rendered, RowRefused
from celery_workers.data.row_formats import RowFormat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from celery_workers.data.renderer import ChatRenderer

__all__ = [
    "NAMED", "AlpacaTemplate", "ChatTemplate", "PlainText", "Rendered", "RowRefused", "Template", "choose_template",
    "to_messages",
]  # fmt: skip

_FOLDER = Path(__file__).parent / "chat_templates"
_ANY_TOOLS = [{"type": "function", "function": {"name": "any"}}]

NAMED: dict[str, tuple[str, ...]] = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "llama2": (),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "mistral": (),
    "phi": ("<|user|>", "<|assistant|>", "<|end|>"),
    "qwen": ("<|im_start|>", "<|im_end|>"),
    "zephyr": (),
}
"""The named chat templates, and the tokens that a model must know for each; those without end with the end-of-text token."""


@dataclass(frozen=True, kw_only=True)
class TemplateChoice:
    """What a config says about templates. ``custom`` is the Jinja text of the template custom."""

    name: str = "model"
    custom: str | None = None
    system_prompt: str = ""
    train_on_roles: tuple[str, ...] = ("assistant",)


class Template(ABC):
    """Turns the canonical columns of rows into text."""

    name: str
    adds_special_tokens: bool
    """Whether the tokenizer's own beginning tokens go before the text; most chat templates write them themselves."""

    @abstractmethod
    def render_all(self, rows: Sequence[Mapping[str, Value]], row_format: RowFormat) -> list[Rendered | RowRefused]:
        """Return the text of each row, or why the template cannot say it without loss."""

    def render(self, values: Mapping[str, Value], row_format: RowFormat) -> Rendered:
        """Return the text of one row.

        Raises: RowRefused: the template cannot say the row without loss.
        """
        (result,) = self.render_all([values], row_format)
        if isinstance(result, RowRefused):
            raise result
        return result


class ChatTemplate(Template):
    """A Jinja text over messages, as models bring them."""

    def __init__(self, name: str, renderer: ChatRenderer, choice: TemplateChoice, *, adds_special_tokens: bool = False) -> None:
        self.name = name
        self.adds_special_tokens = adds_special_tokens
        self._renderer = renderer
        self._choice = choice

    def render_all(self, rows: Sequence[Mapping[str, Value]], row_format: RowFormat) -> list[Rendered | RowRefused]:
        made = [self._conversation(values, row_format) for values in rows]
        rendered = iter(self._renderer.render([item for item in made if isinstance(item, Conversation)]))
        return [next(rendered) if isinstance(item, Conversation) else item for item in made]

    def _conversation(self, values: Mapping[str, Value], row_format: RowFormat) -> Conversation | RowRefused:
        choice = self._choice
        try:
            return to_conversation(
                values, row_format, system_prompt=choice.system_prompt, train_on_roles=choice.train_on_roles
            )  # fmt: skip
        except RowRefused as refusal:
            return refusal


class AlpacaTemplate(Template):
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

    def __init__(self, tokenizer: PreTrainedTokenizerBase, choice: TemplateChoice) -> None:
        if set(choice.train_on_roles) != {"assistant"}:
            message = "the template alpaca trains answers only; choose a chat template to train on other roles"
            raise UserInputError(message, code="untrainable_role", field="train_on_roles")
        self._end = _end_of_text(tokenizer)
        self._system_prompt = choice.system_prompt

    def render_all(self, rows: Sequence[Mapping[str, Value]], row_format: RowFormat) -> list[Rendered | RowRefused]:
        results: list[Rendered | RowRefused] = []
        for values in rows:
            try:
                results.append(self._render(values, row_format))
            except RowRefused as refusal:
                results.append(refusal)
        return results

    def _render(self, values: Mapping[str, Value], row_format: RowFormat) -> Rendered:
        is_trained = True
        if row_format is RowFormat.ALPACA:
            names = ("system", "instruction", "input", "output")
            system, question, context, answer = (text_of(values, name) for name in names)
        else:
            conversation = to_conversation(values, row_format)
            system, question, answer = _one_exchange(conversation)
            context, is_trained = "", bool(conversation.trained)
        preamble = system or self._system_prompt or (self._WITH_INPUT if context else self._WITHOUT_INPUT)
        input_part = f"### Input:\n{context}\n\n" if context else ""
        prompt = f"{preamble}\n\n### Instruction:\n{question}\n\n{input_part}### Response:\n"
        text = f"{prompt}{answer}{self._end}"
        return Rendered(text, [(len(prompt), len(text))] if is_trained else [])


class PlainText(Template):
    """The text as it is, and the end-of-text token; every token is trained."""

    name = "none"
    adds_special_tokens = True

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._end = _end_of_text(tokenizer)

    def render_all(
        self, rows: Sequence[Mapping[str, Value]], row_format: RowFormat  # noqa: ARG002 (the base's)
    ) -> list[Rendered | RowRefused]:  # fmt: skip
        texts = [f"{values['text']}{self._end}" for values in rows]
        return [Rendered(text, [(0, len(text))]) for text in texts]


def choose_template(
    name: str,
    row_format: RowFormat,
    tokenizer: PreTrainedTokenizerBase,
    *,
    system_prompt: str = "",
    custom_template: str | None = None,
    train_on_roles: Sequence[str] = ("assistant",),
) -> Template:
    """Return the template called ``name``; rows of the format text take none.

    Raises: UserInputError: the model lacks what the template needs, or the custom one is none.
    """
    choice = TemplateChoice(
        name=name, custom=custom_template, system_prompt=system_prompt, train_on_roles=tuple(train_on_roles)
    )  # fmt: skip
    if (name == "custom") != bool(custom_template):
        message = "the template custom needs custom_template, and no other template takes it"
        raise UserInputError(message, code="custom_template", field="custom_template")
    if row_format is RowFormat.TEXT:
        return PlainText(tokenizer)
    if name == "alpaca":
        return AlpacaTemplate(tokenizer, choice)
    plain, with_tools = _jinja_texts(choice, tokenizer)
    renderer = _renderer(plain, with_tools, tokenizer, field="custom_template" if custom_template else "template")
    return ChatTemplate(name, renderer, choice, adds_special_tokens=name == "chatml")


def _jinja_texts(choice: TemplateChoice, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """Return the template for rows without tools and with tools; few models have two."""
    if choice.custom:
        return choice.custom, choice.custom
    if choice.name in NAMED:
        _check_tokens(choice.name, tokenizer)
        text = (_FOLDER / f"{choice.name}.jinja").read_text(encoding="utf-8").rstrip("\n")
        return text, text
    if not tokenizer.chat_template:
        message = "the model has no chat template of its own; choose the template alpaca"
        raise UserInputError(message, code="no_chat_template", field="template")
    try:
        return tokenizer.get_chat_template(), tokenizer.get_chat_template(tools=_ANY_TOOLS)
    except ValueError as error:
        message = f"the model has no default chat template: {error}"
        raise UserInputError(message, code="no_chat_template", field="template") from error


def _check_tokens(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    if not NAMED[name]:
        _end_of_text(tokenizer)
    known = tokenizer.get_added_vocab()
    if missing := [token for token in NAMED[name] if token not in known]:
        tokens = " and ".join(missing)
        message = f"the template {name} needs {tokens} in the model's vocabulary; choose model or alpaca"
        raise UserInputError(message, code="template_needs_tokens", field="template")


def _renderer(plain: str, with_tools: str, tokenizer: PreTrainedTokenizerBase, *, field: str) -> ChatRenderer:
    from celery_workers.data.renderer import ChatRenderer

    variables: dict[str, object] = {
        name: str(token) if not isinstance(token, list) else [str(item) for item in token]
        for name, token in tokenizer.special_tokens_map.items()
    }
    return ChatRenderer(plain, tools_template=with_tools, variables=variables, field=field)


def _one_exchange(conversation: Conversation) -> tuple[str, str, str]:
    """Return system text, question and answer.

    Raises: RowRefused: there is more than these, or another message than the answer is to be trained.
    """
    messages = list(conversation.messages)
    system = str(messages.pop(0)["content"]) if messages and messages[0]["role"] == "system" else ""
    if len(messages) != 2:
        count = len(messages)
        raise RowRefused("too_many_turns", f"the alpaca template has room for one question and answer, got {count} messages")
    if conversation.tools or any("tool_calls" in message for message in messages):
        raise RowRefused("no_room_for_tools", "the alpaca template has no room for tools")
    if any(conversation.messages[position]["role"] != "assistant" for position in conversation.trained):
        raise RowRefused("untrainable_role", "the alpaca template trains answers only")
    return system, str(messages[0]["content"]), str(messages[1]["content"])


def _end_of_text(tokenizer: PreTrainedTokenizerBase) -> str:
    if not tokenizer.eos_token:
        message = "the model's tokenizer has no end-of-text token, so no answer could ever end"
        raise UserInputError(message, code="no_end_of_text", field="base_model")
    return str(tokenizer.eos_token)
