"""Labels against an oracle checked by hand: the texts that are trained, turn by turn."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from celery_workers.data.examples_file import IGNORED_LABEL
from celery_workers.data.masking import check_beginning, make_labels
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.templates import Rendered, RowRefused, choose_template
from celery_workers.data.tokenization import Encoder, TokenRow, context_tokens, end_of_turn_ids

SYSTEM = {"role": "system", "content": "Be kind."}
TURNS = [
    {"role": "user", "content": "hello there"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "yes\n\nno?"},
    {"role": "assistant", "content": "\n\nno, ünï"},
]

LLAMA_2 = (
    "{% if messages[0].role == 'system' %}{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% if m.role == 'user' %}<s>[INST] {{ (system if loop.first else '') + m.content }} [/INST]"
    "{% else %} {{ m.content | trim }} </s>{% endif %}{% endfor %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "<start_of_turn>{{ role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a "
    "helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + "
    "'\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As in the model's repository, huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct; a slow test takes the bundled one."""


def encode(tokenizer, values: dict, row_format: str, template: str = "model", folder: Path = Path("/nonexistent")) -> TokenRow:
    chosen = choose_template(template, RowFormat(row_format), tokenizer)
    encoder = Encoder(tokenizer, folder, adds_special_tokens=chosen.adds_special_tokens)
    (result,) = encoder.encode([chosen.render(values, RowFormat(row_format))])
    if isinstance(result, RowRefused):
        raise result
    return result


def trained(tokenizer, row: TokenRow) -> list[str]:
    """Return the trained texts: each unbroken run of supervised tokens."""
    runs: list[list[int]] = []
    before = IGNORED_LABEL
    for token, label in zip(row.input_ids, row.labels, strict=True):
        assert label in (IGNORED_LABEL, token)
        if label != IGNORED_LABEL:
            runs[-1].append(token) if before != IGNORED_LABEL else runs.append([token])
        before = label
    return [tokenizer.decode(run) for run in runs]


@pytest.mark.parametrize(
    ("chat_template", "expected"),
    [
        (CHATML, ["hello<|im_end|>", "\n\nno, ünï<|im_end|>"]),
        (SMOLLM2, ["hello<|im_end|>", "\n\nno, ünï<|im_end|>"]),
        (LLAMA_3, ["hello<|eot_id|>", "no, ünï<|eot_id|>"]),
        (ZEPHYR, ["hello</s>", "\n\nno, ünï</s>"]),
        (GEMMA, ["hello<end_of_turn>", "no, ünï<end_of_turn>"]),
        (LLAMA_2, [" hello </s>", " no, ünï </s>"]),
    ],
)
@pytest.mark.parametrize("messages", [TURNS, [SYSTEM, *TURNS], [{**SYSTEM, "content": ""}, *TURNS]])
def test_every_answer_is_trained_to_its_end_of_turn(
    make_bpe_tokenizer, chat_template: str, expected: list[str], messages: list[dict]
) -> None:
    tokenizer = make_bpe_tokenizer(chat_template)

    row = encode(tokenizer, {"messages": messages}, "chat")

    assert trained(tokenizer, row) == expected
    assert tokenizer.decode(row.input_ids) == tokenizer.apply_chat_template(messages, tokenize=False)


def test_a_default_system_prompt_of_the_template_is_kept(tiny_tokenizer) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = SMOLLM2

    row = encode(tokenizer, {"prompt": "hi", "completion": "yo"}, "prompt_completion")

    # With one token a byte, the trained range can be counted by hand.
    prompt = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.decode(row.input_ids) == f"{prompt}yo<|im_end|>\n"
    answer = tokenizer.convert_tokens_to_ids(["y", "o", "<|im_end|>"])
    assert row.labels == [IGNORED_LABEL] * (len(row.input_ids) - 4) + answer + [IGNORED_LABEL]


@pytest.mark.slow
def test_masks_of_the_bundled_model(tmp_path: Path) -> None:
    from celery_workers.modeling import bundled
    from celery_workers.modeling.loading import load_tokenizer

    folder = bundled.ensure("smollm2-135m-instruct", tmp_path / "smollm2")
    tokenizer = load_tokenizer(folder)

    row = encode(tokenizer, {"messages": TURNS}, "chat", folder=folder)

    assert tokenizer.chat_template == SMOLLM2
    assert trained(tokenizer, row) == ["hello<|im_end|>", "\n\nno, ünï<|im_end|>"]
    assert tokenizer.decode(row.input_ids) == tokenizer.apply_chat_template(TURNS, tokenize=False)


def test_the_prompt_is_tokenized_as_at_inference(make_bpe_tokenizer) -> None:
    tokenizer = make_bpe_tokenizer(CHATML)
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "\n\nno"}]
    prompt = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template(messages, return_dict=False)
    assert whole[: len(prompt)] != prompt, "the tokenizer must join the prompt's line end with the answer's"

    row = encode(tokenizer, {"messages": messages}, "chat")

    assert row.input_ids[: len(prompt)] == prompt
    assert row.labels[: len(prompt)] == [IGNORED_LABEL] * len(prompt)
    assert trained(tokenizer, row) == ["\n\nno<|im_end|>"]


def test_a_tokenizer_that_marks_words_is_masked_by_prefixes(metaspace_tokenizer) -> None:
    metaspace_tokenizer.chat_template = LLAMA_2
    text = metaspace_tokenizer.apply_chat_template(TURNS, tokenize=False)

    row = encode(metaspace_tokenizer, {"messages": TURNS[:2]}, "chat")

    assert (
        row.input_ids
        == metaspace_tokenizer(metaspace_tokenizer.apply_chat_template(TURNS[:2], tokenize=False), add_special_tokens=False)[
            "input_ids"
        ]
    )
    assert trained(metaspace_tokenizer, row) == ["hello </s>"]
    assert text.startswith("<s>[INST]")


def test_named_templates_begin_as_the_tokenizer_begins(make_bpe_tokenizer) -> None:
    tokenizer = make_bpe_tokenizer(adds_bos=True)

    row = encode(tokenizer, {"prompt": "hello", "completion": "yes"}, "prompt_completion", "alpaca")

    assert row.input_ids[0] == tokenizer.bos_token_id
    assert row.input_ids[1] != tokenizer.bos_token_id
    assert trained(tokenizer, row) == ["yes</s>"]


def test_text_rows_train_everything_but_what_nothing_precedes(make_bpe_tokenizer) -> None:
    with_bos, without_bos = make_bpe_tokenizer(adds_bos=True), make_bpe_tokenizer()

    assert trained(with_bos, encode(with_bos, {"text": "hello there"}, "text")) == ["hello there</s>"]
    row = encode(without_bos, {"text": "hello there"}, "text")
    assert row.labels[0] == IGNORED_LABEL
    assert row.labels[1:] == row.input_ids[1:]


@pytest.mark.parametrize(
    ("tokenizer_options", "values", "row_format", "template", "code"),
    [
        ({"chat_template": CHATML.replace("<|im_end|>", "")}, {"messages": TURNS}, "chat", "model", "lost_end_of_turn"),
        # What the model would learn to write goes on behind its end-of-turn token.
        ({"chat_template": CHATML.replace("<|im_end|>", "<|im_end|>END")}, {"messages": TURNS}, "chat", "model",
         "lost_end_of_turn"),
        ({"adds_bos": True}, {"text": "<s>hello"}, "text", "model", "double_bos"),
        ({"chat_template": "<s>" + LLAMA_3}, {"messages": TURNS}, "chat", "model", "double_bos"),
        ({}, {"text": ""}, "text", "model", "no_supervised_token"),
    ],
)  # fmt: skip
def test_rows_that_would_teach_something_else_are_refused(
    make_bpe_tokenizer, tokenizer_options: dict, values: dict, row_format: str, template: str, code: str
) -> None:
    with pytest.raises(RowRefused) as caught:
        encode(make_bpe_tokenizer(**tokenizer_options), values, row_format, template)

    assert caught.value.code == code


def test_a_refused_row_leaves_its_neighbours_alone(make_bpe_tokenizer) -> None:
    encoder = Encoder(make_bpe_tokenizer(), Path("/nonexistent"), adds_special_tokens=True)
    good, bad = Rendered("hello</s>", [(5, 9)]), Rendered("hello", [(0, 5)])

    results = encoder.encode([good, bad, good])

    assert [type(result) for result in results] == [TokenRow, RowRefused, TokenRow]
    assert results[0] == results[2]


def test_labels_of_a_row_of_integers() -> None:
    labels = make_labels(
        [1, 5, 6, 2, 9, 5, 7, 2, 9], [(2, 5), (6, 9)], end_of_turn_ids={2}, is_blank=lambda ids: ids in ((9,), ())
    )

    assert labels == [-100, -100, 6, 2, -100, -100, 7, 2, -100]


def test_two_beginnings_are_refused_and_one_is_not() -> None:
    check_beginning([1, 2, 1], 1)
    check_beginning([5, 5], None)
    with pytest.raises(RowRefused, match="two beginning-of-text"):
        check_beginning([1, 1, 2], 1)


def test_end_of_turn_tokens_come_from_vocabulary_and_generation_config(make_bpe_tokenizer, tmp_path: Path) -> None:
    tokenizer = make_bpe_tokenizer()
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 77]}))

    ids = end_of_turn_ids(tokenizer, tmp_path)

    assert ids == {77, *tokenizer.convert_tokens_to_ids(["</s>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>"])}


def test_the_context_is_the_smallest_limit_known(make_bpe_tokenizer, tmp_path: Path) -> None:
    tokenizer = make_bpe_tokenizer()
    assert context_tokens(tokenizer, tmp_path) is None
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 4096}))
    assert context_tokens(tokenizer, tmp_path) == 4096
