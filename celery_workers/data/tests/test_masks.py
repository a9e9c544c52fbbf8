"""Labels of real chat templates against an oracle written by hand: the texts that are trained, or why a row is refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from celery_workers.data.chat_rendering import RowRefused
from celery_workers.data.examples_file import IGNORED_LABEL
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.templates import NAMED, choose_template
from celery_workers.data.tokenization import Encoder, TokenRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SHAPES = Path(__file__).parent / "chat_templates"
SPECIAL_TOKENS = [
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>",
    "<end_of_turn>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>",
    "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "[INST]", "[/INST]", "[TOOL_CALLS]",
]  # fmt: skip

SYSTEM = {"role": "system", "content": "Be kind."}
NO_SYSTEM = {"role": "system", "content": ""}
TURNS = [
    {"role": "user", "content": "hello there"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "yes\n\nno?"},
    {"role": "assistant", "content": "\n\nno, ünï"},
]
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}}]
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
TOOL_TURNS = [
    {"role": "user", "content": "hello, rain?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "dry", "tool_call_id": "abcdefghi"},
    {"role": "assistant", "content": "no"},
]
CASES = {
    "multi-turn": {"messages": TURNS},
    "system": {"messages": [SYSTEM, *TURNS]},
    "empty system": {"messages": [NO_SYSTEM, *TURNS]},
    "one turn": {"messages": [SYSTEM, *TURNS[:2]]},
    "tools": {"messages": TOOL_TURNS, "tools": TOOLS},
}

IM_END = ["hello<|im_end|>", "\n\nno, ünï<|im_end|>"]
END = ["hello<|end|>", "\n\nno, ünï<|end|>"]
EOT = ["hello<|eot_id|>", "no, ünï<|eot_id|>"]
GEMMA = ["hello<end_of_turn>", "no, ünï<end_of_turn>"]
COHERE = ["hello<|END_OF_TURN_TOKEN|>", "no, ünï<|END_OF_TURN_TOKEN|>"]
QWEN_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call><|im_end|>'
LOST, ERROR, UNPREFIXED, ENDLESS = "content_lost", "template_error", "template_not_prefix_preserving", "lost_end_of_turn"

# Per template: multi-turn, system, empty system, one turn, tools.
ORACLE: dict[str, tuple[list[str] | str, ...]] = {
    "chatml": (IM_END, IM_END, IM_END, IM_END[:1], LOST),
    "smollm2": (IM_END, IM_END, IM_END, IM_END[:1], LOST),
    "qwen2_5": (IM_END, IM_END, IM_END, IM_END[:1], [QWEN_CALL, "no<|im_end|>"]),
    "qwen3_2507": (IM_END, IM_END, IM_END, IM_END[:1], [QWEN_CALL, "no<|im_end|>"]),
    # It writes an empty thought before the last answer only, so earlier answers look otherwise in the history.
    "qwen3": (UNPREFIXED, UNPREFIXED, UNPREFIXED, ["<think>\n\n</think>\n\nhello<|im_end|>"], UNPREFIXED),
    # It leaves the last answer open.
    "qwen1_5": (ENDLESS, ENDLESS, ENDLESS, ENDLESS, LOST),
    "lfm2": (IM_END, IM_END, IM_END, IM_END[:1], LOST),
    "llama2": ([" hello </s>", " no, ünï </s>"], [" hello </s>", " no, ünï </s>"], [" hello </s>", " no, ünï </s>"],
               [" hello </s>"], ERROR),
    "llama3": (EOT, EOT, EOT, EOT[:1], LOST),
    "llama3_1": (EOT, EOT, EOT, EOT[:1],
                 ['{"name": "weather", "parameters": {"city": "Paris"}}<|eot_id|>', "no<|eot_id|>"]),
    "mistral_v1": (["hello</s>", "\n\nno, ünï</s>"], ERROR, ERROR, ERROR, ERROR),
    # It writes the system message into the question only while that is last, so not before its answer.
    "mistral_v3": ([" hello</s>", " no, ünï</s>"], LOST, UNPREFIXED, LOST,
                   ['[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Paris"}, "id": "abcdefghi"}]</s>', " no</s>"]),
    "gemma": (GEMMA, ERROR, ERROR, ERROR, ERROR),
    "gemma3": (GEMMA, GEMMA, GEMMA, GEMMA[:1], ERROR),
    "phi3": (END, END, END, END[:1], LOST),
    "phi3_5": (END, END, END, END[:1], LOST),
    "zephyr": (["hello</s>", "\n\nno, ünï</s>"], ["hello</s>", "\n\nno, ünï</s>"], ["hello</s>", "\n\nno, ünï</s>"],
               ["hello</s>"], LOST),
    "cohere": (COHERE, COHERE, COHERE, COHERE[:1], ERROR),
    "deepseek_v2": ([" hello</s>", " \n\nno, ünï</s>"], [" hello</s>", " \n\nno, ünï</s>"],
                    [" hello</s>", " \n\nno, ünï</s>"], [" hello</s>"], LOST),
    # Its generation prompt opens a thought that the history leaves out; it takes arguments as JSON text only.
    "deepseek_v3": (UNPREFIXED, UNPREFIXED, UNPREFIXED, UNPREFIXED, ERROR),
}  # fmt: skip

NAMED_ORACLE: dict[str, tuple[list[str] | str, ...]] = {
    "chatml": (IM_END, IM_END, IM_END, IM_END[:1], LOST),
    "qwen": (IM_END, IM_END, IM_END, IM_END[:1], [QWEN_CALL, "no<|im_end|>"]),
    "llama2": ([" hello </s>", " no, ünï </s>"], [" hello </s>", " no, ünï </s>"], [" hello </s>", " no, ünï </s>"],
               [" hello </s>"], ERROR),
    "llama3": (EOT, EOT, EOT, EOT[:1], LOST),
    "mistral": ([" hello</s>", " no, ünï</s>"], [" hello</s>", " no, ünï</s>"], [" hello</s>", " no, ünï</s>"],
                [" hello</s>"], ERROR),
    "gemma": (GEMMA, GEMMA, GEMMA, GEMMA[:1], ERROR),
    "phi": (END, END, END, END[:1], ERROR),
    "zephyr": (["hello</s>", "\n\nno, ünï</s>"], ["hello</s>", "\n\nno, ünï</s>"], ["hello</s>", "\n\nno, ünï</s>"],
               ["hello</s>"], ERROR),
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with merges, words parted as GPT-2 does, and the special tokens of all families."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(["hello there, yes no \n\n assistant user system: weather Paris tool_call name"] * 20, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", additional_special_tokens=SPECIAL_TOKENS[2:],
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def encode(tokenizer, values: dict, template: str = "model", **options: object) -> TokenRow | RowRefused:
    chosen = choose_template(template, RowFormat.CHAT, tokenizer, **options)
    encoder = Encoder(tokenizer, Path("/nonexistent"), adds_special_tokens=chosen.adds_special_tokens)
    (rendered,) = chosen.render_all([values], RowFormat.CHAT)
    return rendered if isinstance(rendered, RowRefused) else encoder.encode([rendered])[0]


def trained(tokenizer, result: TokenRow | RowRefused) -> list[str] | str:
    """Return each unbroken run of supervised tokens as text, or the code of the refusal."""
    if isinstance(result, RowRefused):
        return result.code
    runs: list[list[int]] = []
    before = IGNORED_LABEL
    for token, label in zip(result.input_ids, result.labels, strict=True):
        assert label in (IGNORED_LABEL, token)
        if label != IGNORED_LABEL:
            runs[-1].append(token) if before != IGNORED_LABEL else runs.append([token])
        before = label
    return [tokenizer.decode(run) for run in runs]


def as_transformers_takes_it(message: dict) -> dict:
    """Arguments as an object, as the documentation of chat templates asks for."""
    calls = [
        {**call, "function": {**call["function"], "arguments": {"city": "Paris"}}} for call in message.get("tool_calls", [])
    ]
    return {**message, "tool_calls": calls} if calls else message


def test_every_shape_is_in_the_oracle() -> None:
    assert {path.stem for path in SHAPES.glob("*.jinja")} == set(ORACLE)
    assert set(NAMED) == set(NAMED_ORACLE)


@pytest.mark.parametrize("shape", ORACLE)
@pytest.mark.parametrize("case", CASES)
def test_labels_of_a_models_own_template(tokenizer, shape: str, case: str) -> None:
    tokenizer.chat_template = (SHAPES / f"{shape}.jinja").read_text(encoding="utf-8")

    result = encode(tokenizer, CASES[case])

    assert trained(tokenizer, result) == ORACLE[shape][list(CASES).index(case)]
    if isinstance(result, TokenRow):
        messages = [as_transformers_takes_it(message) for message in CASES[case]["messages"]]
        text = tokenizer.apply_chat_template(messages, tools=CASES[case].get("tools"), tokenize=False)
        assert tokenizer.decode(result.input_ids) == text


@pytest.mark.parametrize("name", NAMED_ORACLE)
@pytest.mark.parametrize("case", CASES)
def test_labels_of_a_named_template(tokenizer, name: str, case: str) -> None:
    assert trained(tokenizer, encode(tokenizer, CASES[case], name)) == NAMED_ORACLE[name][list(CASES).index(case)]


@pytest.mark.parametrize(
    ("name", "shape", "cases"),
    [
        ("chatml", "chatml", ("multi-turn", "system", "empty system")),
        ("qwen", "qwen3_2507", ("multi-turn", "system", "empty system", "tools")),
        ("llama2", "llama2", ("multi-turn", "system", "empty system")),
        ("llama3", "llama3", ("multi-turn", "system", "empty system")),
        ("mistral", "mistral_v1", ()),
        ("gemma", "gemma", ("multi-turn",)),
        ("gemma", "gemma3", ("multi-turn", "system")),
        ("zephyr", "zephyr", ("multi-turn", "system", "empty system")),
    ],
)
def test_named_templates_write_what_their_models_read(tokenizer, name: str, shape: str, cases: tuple[str, ...]) -> None:
    tokenizer.chat_template = (SHAPES / f"{shape}.jinja").read_text(encoding="utf-8")
    named, own = (choose_template(template, RowFormat.CHAT, tokenizer) for template in (name, "model"))

    for case in cases:
        assert named.render(CASES[case], RowFormat.CHAT).text == own.render(CASES[case], RowFormat.CHAT).text


@pytest.mark.parametrize(
    ("shape", "roles", "expected"),
    [
        ("chatml", ["user"], ["hello there<|im_end|>", "yes\n\nno?<|im_end|>"]),
        ("chatml", ["system", "assistant"], ["Be kind.<|im_end|>", *IM_END]),
        ("phi3", ["user"], ["hello there<|end|>", "yes\n\nno?<|end|>"]),
        ("llama2", ["user"], ["hello there [/INST]", "yes\n\nno? [/INST]"]),
        ("llama3", ["system"], ["Be kind.<|eot_id|>"]),
        ("chatml", ["tool"], "no_supervised_token"),
    ],
)
def test_other_roles_are_trained_where_asked_for(tokenizer, shape: str, roles: list[str], expected: list[str] | str) -> None:
    tokenizer.chat_template = (SHAPES / f"{shape}.jinja").read_text(encoding="utf-8")

    assert trained(tokenizer, encode(tokenizer, CASES["system"], train_on_roles=roles)) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([{}, {"train": False}, {}, {}], IM_END[1:]),
        ([{"train": True}, {"train": None}, {}, {"train": True}], ["hello there<|im_end|>", *IM_END]),
        ([{}, {"train": False}, {}, {"train": False}], "no_supervised_token"),
    ],
)
def test_a_messages_own_flag_goes_before_its_role(tokenizer, flags: list[dict], expected: list[str] | str) -> None:
    messages = [{**message, **flag} for message, flag in zip(TURNS, flags, strict=True)]

    result = encode(tokenizer, {"messages": messages}, "chatml", system_prompt="Be kind.")

    assert trained(tokenizer, result) == expected


def test_tools_that_a_template_leaves_out_are_not_lost_unsaid(tokenizer) -> None:
    result = encode(tokenizer, {"messages": TURNS, "tools": TOOLS}, "chatml")

    assert isinstance(result, RowRefused)
    assert (result.code, "the tool weather" in str(result)) == ("content_lost", True)


def test_thoughts_that_a_template_leaves_out_are_not_lost_unsaid(tokenizer) -> None:
    messages = [TURNS[0], {**TURNS[1], "reasoning_content": "hm"}]
    tokenizer.chat_template = (SHAPES / "qwen3.jinja").read_text(encoding="utf-8")

    assert trained(tokenizer, encode(tokenizer, {"messages": messages})) == ["<think>\nhm\n</think>\n\nhello<|im_end|>"]
    assert trained(tokenizer, encode(tokenizer, {"messages": messages}, "chatml")) == "content_lost"
