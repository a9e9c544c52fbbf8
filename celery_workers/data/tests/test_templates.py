from __future__ import annotations

import pytest

from celery_workers.contract import UserInputError
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.templates import RowRefused, choose_template, to_messages

ALPACA = {"instruction": "Add.", "input": "2, 3", "output": "5", "system": None}
PAIR = {"prompt": "Hi", "completion": "Hello"}
CHAT = {
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]
}


def render(template, values: dict, row_format: str) -> tuple[str, list[str]]:
    rendered = template.render(values, RowFormat(row_format))
    return rendered.text, [rendered.text[start:end] for start, end in rendered.answers]


def test_alpaca_with_input_is_the_published_text(make_bpe_tokenizer) -> None:
    text, answers = render(choose_template("alpaca", RowFormat.ALPACA, make_bpe_tokenizer()), ALPACA, "alpaca")

    assert text == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Input:\n2, 3\n\n### Response:\n5</s>"
    )
    assert answers == ["5</s>"]


def test_alpaca_without_input_leaves_the_heading_out(make_bpe_tokenizer) -> None:
    template = choose_template("alpaca", RowFormat.PROMPT_COMPLETION, make_bpe_tokenizer())

    text, answers = render(template, PAIR, "prompt_completion")

    assert text == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nHi\n\n### Response:\nHello</s>"
    )
    assert answers == ["Hello</s>"]


def test_alpaca_takes_the_system_text_as_preamble(make_bpe_tokenizer) -> None:
    template = choose_template("alpaca", RowFormat.CHAT, make_bpe_tokenizer(), system_prompt="unused")

    text, _ = render(template, {"messages": CHAT["messages"][:3]}, "chat")

    assert text == "Be kind.\n\n### Instruction:\na\n\n### Response:\nb</s>"


def test_alpaca_refuses_several_turns(make_bpe_tokenizer) -> None:
    with pytest.raises(RowRefused, match="one question and answer, got 4 messages") as caught:
        choose_template("alpaca", RowFormat.CHAT, make_bpe_tokenizer()).render(CHAT, RowFormat.CHAT)

    assert caught.value.code == "too_many_turns"


def test_chatml_marks_every_answer(make_bpe_tokenizer) -> None:
    text, answers = render(choose_template("chatml", RowFormat.CHAT, make_bpe_tokenizer()), CHAT, "chat")

    assert text == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\nd<|im_end|>\n"
    )
    assert answers == ["b<|im_end|>\n", "d<|im_end|>\n"]


def test_text_is_trained_whole(make_bpe_tokenizer) -> None:
    template = choose_template("model", RowFormat.TEXT, make_bpe_tokenizer())

    assert template.name == "none"
    assert render(template, {"text": "Once."}, "text") == ("Once.</s>", ["Once.</s>"])


@pytest.mark.parametrize(
    ("values", "row_format", "expected"),
    [
        (ALPACA, "alpaca", [("user", "Add.\n\n2, 3"), ("assistant", "5")]),
        ({**ALPACA, "input": "", "system": "S"}, "alpaca", [("system", "S"), ("user", "Add."), ("assistant", "5")]),
        (PAIR, "prompt_completion", [("user", "Hi"), ("assistant", "Hello")]),
    ],
)
def test_rows_become_messages(values: dict, row_format: str, expected: list[tuple[str, str]]) -> None:
    messages = to_messages(values, RowFormat(row_format))

    assert [(message["role"], message["content"]) for message in messages] == expected


def test_the_system_prompt_yields_to_a_row_with_its_own() -> None:
    assert to_messages(PAIR, RowFormat.PROMPT_COMPLETION, system_prompt="P")[0] == {"role": "system", "content": "P"}
    assert to_messages(CHAT, RowFormat.CHAT, system_prompt="P") == CHAT["messages"]


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize(
    ("chat_template", "code", "message"),
    [
        # The last message looks different: earlier ones change when another follows.
        ("{% for m in messages %}{{ m.role }}:{{ m.content }}{{ '!' if loop.last }}\n{% endfor %}",
         "template_not_prefix_preserving", "message 2"),
        # The generation prompt opens something that the finished answer does not have.
        (CHATML.replace("assistant\n{% endif", "assistant\n<think>{% endif"), "template_not_prefix_preserving", "message 2"),
        ("{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}|{% endif %}{% endfor %}",
         "content_lost", "0 .system"),
        ("{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}",
         "template_error", "no system here"),
        ("{{ messages.__class__.__mro__ }}", "template_error", "unsafe"),
        ("{{ messages.append(1) }}", "template_error", "unsafe"),
    ],
)  # fmt: skip
def test_a_template_that_would_teach_something_else_is_refused(
    make_bpe_tokenizer, chat_template: str, code: str, message: str
) -> None:
    template = choose_template("model", RowFormat.CHAT, make_bpe_tokenizer(chat_template))

    with pytest.raises(RowRefused, match=message) as caught:
        template.render(CHAT, RowFormat.CHAT)

    assert caught.value.code == code


def test_a_model_without_chat_template_is_refused(make_bpe_tokenizer) -> None:
    with pytest.raises(UserInputError, match="no chat template of its own"):
        choose_template("model", RowFormat.CHAT, make_bpe_tokenizer())


def test_chatml_needs_its_tokens(metaspace_tokenizer) -> None:
    with pytest.raises(UserInputError, match=r"needs <\|im_start\|> and <\|im_end\|>"):
        choose_template("chatml", RowFormat.CHAT, metaspace_tokenizer)


def test_a_tokenizer_without_end_of_text_is_refused(make_bpe_tokenizer) -> None:
    with pytest.raises(UserInputError, match="no end-of-text token"):
        choose_template("alpaca", RowFormat.ALPACA, make_bpe_tokenizer(eos=None))
