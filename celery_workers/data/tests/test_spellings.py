"""One sample of each peer's format: what it is found to be, and what its rows become.

The samples follow the formats as their makers document them: LLaMA-Factory's ``data/README.md`` and demo files, Axolotl's
dataset formats, TRL's "Dataset formats and types", OpenAI's guides to fine-tuning, ShareGPT's export, and the cards of
widely used public sets of preferences.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from celery_workers.contract import UserInputError
from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.checks import check_row, is_fit
from celery_workers.data.importing import open_rows
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.rows import SourceFile

USER, ASSISTANT = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
OTHER = {"role": "assistant", "content": "c"}
SYSTEM = {"role": "system", "content": "s"}
CALL = {"name": "f", "arguments": '{"x": 1}'}
CALLS = json.dumps([{"type": "function", "function": CALL}])
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


def said(role: str, value: str) -> dict[str, str]:
    return {"from": role, "value": value}


def chat(*messages: dict[str, object], tools: object = None) -> dict[str, object]:
    return {"messages": list(messages), "tools": tools}


def preference(*prompt: dict[str, str], tools: object = None) -> dict[str, object]:
    return {"prompt": list(prompt), "chosen": [ASSISTANT], "rejected": [OTHER], "tools": tools}


def kto(*prompt: dict[str, str], label: bool = True) -> dict[str, object]:
    return {"prompt": list(prompt), "completion": [ASSISTANT], "label": label, "tools": None}


UNTRAINED = {**OTHER, "train": False}
SAMPLES: dict[str, tuple[dict[str, object], str, dict[str, object]]] = {
    "LLaMA-Factory alpaca": (
        {"instruction": "a", "input": "i", "output": "b"}, "alpaca",
        {"instruction": "a", "input": "i", "output": "b", "system": None},
    ),
    "LLaMA-Factory alpaca with history": (
        {"instruction": "a", "input": "", "output": "b", "system": "s", "history": [["a", "c"]]}, "chat",
        chat(SYSTEM, USER, OTHER, USER, ASSISTANT),
    ),
    "LLaMA-Factory sharegpt": (
        {"conversations": [said("human", "a"), said("gpt", "b")], "system": "s", "tools": ""}, "chat",
        chat(SYSTEM, USER, ASSISTANT),
    ),
    "LLaMA-Factory sharegpt with tools": (
        {
            "conversations": [
                said("human", "a"), said("function_call", json.dumps(CALL)), said("observation", "o"), said("gpt", "b")
            ],
            "tools": json.dumps(TOOLS),
        },
        "chat",
        chat(
            USER, {"role": "assistant", "content": "", "tool_calls": CALLS}, {"role": "tool", "content": "o"}, ASSISTANT,
            tools=json.dumps(TOOLS),
        ),
    ),
    "LLaMA-Factory preference, alpaca": (
        {"instruction": "a", "input": "i", "chosen": "b", "rejected": "c"}, "preference",
        preference({"role": "user", "content": "a\n\ni"}),
    ),
    "LLaMA-Factory preference, sharegpt": (
        {"conversations": [said("human", "a")], "chosen": said("gpt", "b"), "rejected": said("gpt", "c")}, "preference",
        preference(USER),
    ),
    "LLaMA-Factory kto": ({"messages": [USER, ASSISTANT], "label": False}, "kto", kto(USER, label=False)),
    "LLaMA-Factory kto_tag": (
        {"instruction": "a", "input": "", "output": "b", "kto_tag": True}, "kto", kto(USER)
    ),
    "LLaMA-Factory pretraining": ({"text": "t"}, "text", {"text": "t"}),
    "Axolotl chat_template": ({"messages": [SYSTEM, USER, ASSISTANT]}, "chat", chat(SYSTEM, USER, ASSISTANT)),
    "Axolotl chat_template with train flags": (
        {"messages": [USER, {**OTHER, "train": False}, USER, ASSISTANT]}, "chat", chat(USER, UNTRAINED, USER, ASSISTANT)
    ),
    "Axolotl sharegpt": ({"conversations": [said("user", "a"), said("assistant", "b")]}, "chat", chat(USER, ASSISTANT)),
    "Axolotl alpaca_chat.load_qa": (
        {"question": "a", "answer": "b"}, "prompt_completion", {"prompt": "a", "completion": "b"}
    ),
    "Axolotl alpaca_w_system.load_open_orca": (
        {"system_prompt": "s", "question": "a", "response": "b"}, "chat", chat(SYSTEM, USER, ASSISTANT)
    ),
    "Axolotl dpo chatml.intel": (
        {"system": "s", "question": "a", "chosen": "b", "rejected": "c"}, "preference", preference(SYSTEM, USER)
    ),
    "Axolotl dpo chat_template": (
        {"messages": [USER], "chosen": ASSISTANT, "rejected": OTHER}, "preference", preference(USER)
    ),
    "TRL language modeling": ({"text": "t"}, "text", {"text": "t"}),
    "TRL language modeling, conversational": ({"messages": [USER, ASSISTANT]}, "chat", chat(USER, ASSISTANT)),
    "TRL prompt-completion": (
        {"prompt": "a", "completion": "b"}, "prompt_completion", {"prompt": "a", "completion": "b"}
    ),
    "TRL prompt-completion, conversational": (
        {"prompt": [USER, OTHER, USER], "completion": [ASSISTANT]}, "chat", chat(USER, UNTRAINED, USER, ASSISTANT)
    ),
    "TRL preference": ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference", preference(USER)),
    "TRL preference, conversational": (
        {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [OTHER]}, "preference", preference(USER)
    ),
    "TRL preference, conversational, implicit prompt": (
        {"chosen": [SYSTEM, USER, ASSISTANT], "rejected": [SYSTEM, USER, OTHER]}, "preference", preference(SYSTEM, USER)
    ),
    "TRL preference, prompt beside whole conversations": (
        {"prompt": "a", "chosen": [USER, ASSISTANT], "rejected": [USER, OTHER]}, "preference", preference(USER)
    ),
    "TRL unpaired preference": ({"prompt": "a", "completion": "b", "label": False}, "kto", kto(USER, label=False)),
    "TRL unpaired preference, conversational": (
        {"prompt": [USER], "completion": [ASSISTANT], "label": True}, "kto", kto(USER)
    ),
    "OpenAI chat": (
        {
            "messages": [
                {"role": "developer", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "a"}]},
                {**OTHER, "weight": 0}, USER, {**ASSISTANT, "weight": 1},
            ]
        },
        "chat", chat(SYSTEM, USER, UNTRAINED, USER, {**ASSISTANT, "train": True}),
    ),
    "OpenAI tool calls": (
        {
            "messages": [
                USER, {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": CALL}]},
                {"role": "tool", "tool_call_id": "1", "content": "o"}, ASSISTANT,
            ],
            "tools": TOOLS, "parallel_tool_calls": False,
        },
        "chat",
        chat(
            USER,
            {
                "role": "assistant", "content": "",
                "tool_calls": json.dumps([{"id": "1", "type": "function", "function": CALL}]),
            },
            {"role": "tool", "content": "o", "tool_call_id": "1"}, ASSISTANT, tools=json.dumps(TOOLS),
        ),
    ),
    "OpenAI preference": (
        {"input": {"messages": [USER], "tools": TOOLS}, "preferred_output": [ASSISTANT], "non_preferred_output": [OTHER]},
        "preference", preference(USER, tools=json.dumps(TOOLS)),
    ),
    "OpenAI tool calls with weights": (
        {
            "messages": [
                USER, {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": CALL}], "weight": 1},
                {"role": "tool", "tool_call_id": "1", "content": "o"}, {**ASSISTANT, "weight": 0},
            ],
            "tools": TOOLS,
        },
        "chat",
        chat(
            USER,
            {
                "role": "assistant", "content": "",
                "tool_calls": json.dumps([{"id": "1", "type": "function", "function": CALL}]), "train": True,
            },
            {"role": "tool", "content": "o", "tool_call_id": "1"}, {**ASSISTANT, "train": False}, tools=json.dumps(TOOLS),
        ),
    ),
    "OpenAI function call": (
        {
            "messages": [
                USER, {"role": "assistant", "content": None, "function_call": CALL},
                {"role": "function", "name": "f", "content": "o"}, ASSISTANT,
            ],
            "functions": [{"name": "f", "parameters": {}}],
        },
        "chat",
        chat(
            USER, {"role": "assistant", "content": "", "tool_calls": CALLS},
            {"role": "tool", "content": "o", "name": "f"}, ASSISTANT, tools=json.dumps([{"name": "f", "parameters": {}}]),
        ),
    ),
    "hh-rlhf": (
        {
            "chosen": "\n\nHuman: a\n\nAssistant: c\n\nHuman: a\n\nAssistant: b",
            "rejected": "\n\nHuman: a\n\nAssistant: c\n\nHuman: a\n\nAssistant: c",
        },
        "preference", preference(USER, OTHER, USER),
    ),
    "hh-rlhf with a prompt": (
        {"prompt": "\n\nHuman: a\n\nAssistant:", "chosen": "b", "rejected": "c"}, "preference", preference(USER)
    ),
    "UltraFeedback, binarized": (
        {
            "prompt": "a", "prompt_id": "x", "chosen": [USER, ASSISTANT], "rejected": [USER, OTHER],
            "messages": [USER, ASSISTANT], "score_chosen": 8.5, "score_rejected": 7.0,
        },
        "preference", preference(USER),
    ),
    "Orca DPO pairs": (
        {"system": "s", "question": "a", "chosen": "b", "rejected": "c"}, "preference", preference(SYSTEM, USER)
    ),
    "Orca DPO pairs, distilabel": (
        {"system": "s", "input": "a", "chosen": "b", "rejected": "c", "generations": ["b", "c"], "rating": [9.0, 7.0]},
        "preference", preference(SYSTEM, USER),
    ),
    "KTO mix": ({"prompt": [USER, OTHER, USER], "completion": [ASSISTANT], "label": False}, "kto",
        kto(USER, OTHER, USER, label=False),
    ),
    "OpenAI completions": ({"prompt": "a", "completion": "b"}, "prompt_completion", {"prompt": "a", "completion": "b"}),
    "ShareGPT": (
        {"id": "x", "conversations": [said("human", "a"), said("chatgpt", "c"), said("human", "a"), said("gpt", "b")]},
        "chat", chat(USER, OTHER, USER, ASSISTANT),
    ),
    "Dolly": (
        {"instruction": "a", "context": "i", "response": "b", "category": "x"}, "alpaca",
        {"instruction": "a", "input": "i", "output": "b", "system": None},
    ),
    "query and response": ({"query": "a", "response": "b"}, "prompt_completion", {"prompt": "a", "completion": "b"}),
    "problem and solution": ({"problem": "a", "solution": "b"}, "prompt_completion", {"prompt": "a", "completion": "b"}),
    "input and output": ({"input": "a", "output": "b"}, "prompt_completion", {"prompt": "a", "completion": "b"}),
}  # fmt: skip


def read(folder: Path, rows: list[dict[str, object]], *, as_array: bool = False, **options: object) -> tuple[str, list]:
    path = folder / "stored"
    path.write_text(json.dumps(rows) if as_array else "\n".join(map(json.dumps, rows)))
    opened = open_rows(SourceFile(path=path, name="a.json" if as_array else "a.jsonl"), **options)
    return opened.detected, [row for batch, _ in opened for row in batch]


@pytest.mark.parametrize("as_array", [False, True])
@pytest.mark.parametrize("name", SAMPLES)
def test_every_peers_format_is_found_and_no_row_is_lost(name: str, tmp_path: Path, *, as_array: bool) -> None:
    row, row_format, values = SAMPLES[name]

    detected, rows = read(tmp_path, [row] * 7, as_array=as_array)

    assert detected.format is RowFormat(row_format)
    assert [found.values for found in rows] == [values] * 7
    assert [found.number for found in rows] == list(range(1, 8))
    assert all(check_row(found, detected.shape) == [] for found in rows)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_column_is_trained_on_or_named(name: str, tmp_path: Path) -> None:
    row, _, _ = SAMPLES[name]

    detected, rows = read(tmp_path, [row])

    for column in row:
        assert column in detected.sources.values() or column in rows[0].extras
        assert column in detected.reason


def refusal(detected_and_rows: tuple) -> list[tuple[str, str]]:
    detected, rows = detected_and_rows
    row: CanonicalRow = rows[-1]
    problems = check_row(row, detected.shape)
    assert not is_fit(problems)
    return [(problem.code, problem.field) for problem in problems]


@pytest.mark.parametrize(
    ("good", "bad", "expected"),
    [
        (
            {"conversations": [said("human", "a"), said("gpt", "b")]},
            {"conversations": [said("human", "a"), said("function_call", "no JSON")]},
            ("wrong_type", "messages[1].content"),
        ),
        (
            {"messages": [USER, ASSISTANT]},
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ASSISTANT]},
            ("wrong_type", "messages[0].content"),
        ),
        (
            {"messages": [USER, ASSISTANT]},
            {"messages": [USER, {**ASSISTANT, "weight": 0.5}]},
            ("wrong_type", "messages[1].weight"),
        ),
        ({"messages": [USER, ASSISTANT]}, {"messages": [USER, ASSISTANT], "tools": "none"}, ("wrong_type", "tools")),
        (
            {"instruction": "a", "output": "b", "history": []},
            {"instruction": "a", "output": "b", "history": ["one"]},
            ("wrong_type", "history"),
        ),
        (
            {"prompt": "a", "chosen": [USER, ASSISTANT], "rejected": [USER, OTHER]},
            {"prompt": "unlike", "chosen": [USER, ASSISTANT], "rejected": [USER, OTHER]},
            ("wrong_type", "prompt"),
        ),
        (
            {"prompt": "a", "completion": "b", "label": True},
            {"prompt": "a", "completion": "b", "label": "so-so"},
            ("wrong_type", "label"),
        ),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, {"chosen": "b", "rejected": "c"}, ("missing_field", "prompt")),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c"},
            {"prompt": "a", "chosen": "b", "rejected": "b"},
            ("equal_answers", "rejected"),
        ),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c"},
            {"prompt": "a", "chosen": "", "rejected": "c"},
            ("no_answer", "chosen[0].content"),
        ),
        (
            {"messages": [USER, ASSISTANT]},
            {"messages": [USER, {"role": "tool", "content": "o"}, ASSISTANT]},
            ("role_order", "messages[1].role"),
        ),
    ],
)
def test_a_row_unlike_its_format_is_named_and_not_dropped(
    good: dict[str, object], bad: dict[str, object], expected: tuple[str, str], tmp_path: Path
) -> None:
    rows = [good, good, bad] if "label" not in good else [good] * 250 + [bad]

    found = read(tmp_path, rows)

    assert len(found[1]) == len(rows)
    assert expected in refusal(found)


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        pytest.param("Human: a", "Human: a", [("missing_field", "prompt")], id="no-turn-of-the-assistant"),
        pytest.param(
            "\n\nHuman: a\n\nAssistant: b", "c", [("missing_field", "prompt")], id="one-side-is-no-conversation"
        ),
        pytest.param(
            "\n\nHuman: a\n\nAssistant: b", "\n\nHuman: x\n\nAssistant: b",
            [("missing_field", "prompt")], id="other-questions",
        ),
    ],
)  # fmt: skip
def test_pairs_without_a_common_question_are_named(
    chosen: str, rejected: str, expected: list[tuple[str, str]], tmp_path: Path
) -> None:
    found = refusal(read(tmp_path, [{"chosen": chosen, "rejected": rejected}]))

    assert set(expected) <= set(found)


def test_a_label_that_is_no_truth_does_not_make_kto(tmp_path: Path) -> None:
    detected, _ = read(tmp_path, [{"prompt": "a", "completion": "b", "label": "sports"}])

    assert detected.format is RowFormat.PROMPT_COMPLETION
    assert "'label'" in detected.reason


def test_conversations_in_csv_stand_as_json(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    conversation = json.dumps([said("human", "a"), said("gpt", "b")]).replace('"', '""')
    path.write_text(f'conversations\n"{conversation}"\n')

    rows = [row for batch, _ in open_rows(SourceFile(path=path, name="a.csv")) for row in batch]

    assert rows[0].values == chat(USER, ASSISTANT)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "only a prompt"},
        {"segments": [{"label": True, "text": "x"}]},
        {"prompt": "a", "completions": ["b"], "labels": [True]},
        {"role": "user", "content": "one message a row"},
    ],
)
def test_what_fits_nothing_is_refused_by_name(row: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="no row format fits the columns") as caught:
        read(tmp_path, [row])

    assert caught.value.code == "no_row_format"


def test_a_mapping_leads_to_any_format(tmp_path: Path) -> None:
    mapping = {"chosen": "gut", "rejected": "schlecht", "prompt": "frage"}

    detected, rows = read(tmp_path, [{"frage": "a", "gut": "b", "schlecht": "c", "text": "t"}], mapping=mapping)

    assert detected.format is RowFormat.PREFERENCE
    assert rows[0].values == preference(USER)
    assert rows[0].extras == {"text": "t"}
