"""The evaluation agent on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from celery_workers.agents.evaluation import EvaluationAgent
from celery_workers.contract import Canceled, Examples, Model, UserInputError
from celery_workers.contract.testing import RecordingContext, run_agent
from celery_workers.data.examples_file import ExamplesWriter
from celery_workers.modeling.tokenizer import tokenizer_digest

BASE = "local:tiny"


@pytest.fixture
def examples(tmp_path: Path, tiny_model_folder: Path, tiny_tokenizer) -> Examples:
    folder = tmp_path / "examples"
    with ExamplesWriter(folder) as writer:
        for number in range(1, 13):
            prompt = tiny_tokenizer.apply_chat_template(
                [{"role": "user", "content": f"say {'x' * number}"}], add_generation_prompt=True, return_dict=False
            )
            answer = tiny_tokenizer(f"{number} done<|im_end|>")["input_ids"]
            writer.append([*prompt, *answer], [-100] * len(prompt) + answer, row_number=number)
    metadata = {"base_model": BASE, "format": "chat", "tokenizer_digest": tokenizer_digest(tiny_model_folder)}
    return Examples(path=folder, metadata=metadata, sha256="e" * 64)


@pytest.fixture
def adapter(tiny_adapter_folder: Path) -> Model:
    return Model(path=tiny_adapter_folder, metadata={"model_kind": "adapter", "base_model": BASE}, sha256="a" * 64)


@pytest.fixture
def context(tmp_path: Path, tiny_model_folder: Path) -> RecordingContext:
    workdir = tmp_path / "work"
    workdir.mkdir()
    return RecordingContext(workdir=workdir, references={BASE: tiny_model_folder})


CONFIG = {"max_new_tokens": 6, "precision": "float32", "batch_size": 5}


def evaluate(context: RecordingContext, inputs: dict, config: dict | None = None) -> tuple[dict, dict]:
    outputs = run_agent(EvaluationAgent, {**CONFIG, **(config or {})}, inputs, context=context)
    return json.loads(outputs.report.path.read_text()), outputs.report.metadata


def test_an_adapter_is_measured_beside_its_base(context: RecordingContext, examples: Examples, adapter: Model) -> None:
    report, metadata = evaluate(context, {"eval_examples": examples, "model": adapter})

    subjects = report["data"]["subjects"]
    assert [(subject["name"], subject["role"], subject["model_kind"]) for subject in subjects] == [
        ("base", "base", "base"),
        ("tuned", "tuned", "adapter"),
    ]
    assert subjects[1]["model_sha256"] == "a" * 64
    assert subjects[0]["scores"]["loss"] != pytest.approx(subjects[1]["scores"]["loss"], rel=0.01)
    assert [row["row_number"] for row in subjects[0]["rows"]] == list(range(1, 13))
    assert subjects[0]["rows"][2]["reference"] == "3 done"
    assert report["data"]["examples_sha256"] == metadata["examples_sha256"] == "e" * 64
    assert [subject["scores"] for subject in metadata["subjects"]] == [subject["scores"] for subject in subjects]
    assert context.fractions[-1] == 1.0
    assert context.fractions == sorted(context.fractions)


def test_the_base_alone_scores_as_under_the_disabled_adapter(
    context: RecordingContext, examples: Examples, adapter: Model
) -> None:
    both, _ = evaluate(context, {"eval_examples": examples, "model": adapter})
    alone, _ = evaluate(context, {"eval_examples": examples})

    assert alone["data"]["subjects"] == [both["data"]["subjects"][0]]


def test_include_base_false_measures_the_model_only(context: RecordingContext, examples: Examples, adapter: Model) -> None:
    report, _ = evaluate(context, {"eval_examples": examples, "model": adapter}, {"include_base": False})

    assert [subject["name"] for subject in report["data"]["subjects"]] == ["tuned"]


def test_full_weights_are_loaded_from_their_own_folder(
    context: RecordingContext, examples: Examples, tiny_model_folder: Path
) -> None:
    merged = Model(path=tiny_model_folder, metadata={"model_kind": "merged", "base_model": BASE}, sha256="f" * 64)
    context.references = {}

    report, _ = evaluate(context, {"eval_examples": examples, "model": merged})

    assert [(item["role"], item["model_kind"]) for item in report["data"]["subjects"]] == [("tuned", "merged")]


def test_batch_size_changes_no_number(context: RecordingContext, examples: Examples, adapter: Model) -> None:
    inputs = {"eval_examples": examples, "model": adapter}
    one, _ = evaluate(context, inputs, {"batch_size": 1})
    many, _ = evaluate(context, inputs, {"batch_size": 50})

    for left, right in zip(one["data"]["subjects"], many["data"]["subjects"], strict=True):
        assert [row["generated"] for row in left["rows"]] == [row["generated"] for row in right["rows"]]
        assert [row["loss"] for row in left["rows"]] == pytest.approx([row["loss"] for row in right["rows"]], rel=1e-5)


def test_samples_show_prompt_reference_and_both_answers(context: RecordingContext, examples: Examples, adapter: Model) -> None:
    report, _ = evaluate(context, {"eval_examples": examples, "model": adapter}, {"samples": 3})

    assert [sample["row_number"] for sample in report["samples"]] == [1, 5, 9]
    assert report["samples"][0]["prompt"].endswith("say x<|im_end|>\n<|im_start|>assistant\n")
    assert {"base", "tuned", "reference"} <= report["samples"][0].keys()


def test_loss_only_generates_nothing(context: RecordingContext, examples: Examples) -> None:
    report, _ = evaluate(context, {"eval_examples": examples}, {"metrics": ["loss"], "generate": False, "max_rows": 4})

    subject = report["data"]["subjects"][0]
    assert subject["scores"].keys() == {"loss", "rows", "supervised_tokens"}
    assert [row["generated"] for row in subject["rows"]] == [None] * 4
    assert report["samples"] == []


def test_plain_text_is_scored_and_not_asked(context: RecordingContext, examples: Examples) -> None:
    text = Examples(path=examples.path, metadata={**examples.metadata, "format": "text"}, sha256="e" * 64)

    report, _ = evaluate(context, {"eval_examples": text})

    scores = report["data"]["subjects"][0]["scores"]
    assert scores["exact_match"] is None
    assert scores["loss"] > 0
    assert any("have no prompt" in log.message for log in context.logs)


def test_exact_match_without_generation_is_refused(context: RecordingContext, examples: Examples) -> None:
    with pytest.raises(UserInputError, match="exact_match need generate: true"):
        evaluate(context, {"eval_examples": examples}, {"generate": False})


def test_examples_of_another_tokenizer_are_refused(context: RecordingContext, examples: Examples) -> None:
    foreign = Examples(path=examples.path, metadata={**examples.metadata, "tokenizer_digest": "0" * 64}, sha256="e" * 64)

    with pytest.raises(UserInputError, match="preprocess the data for local:tiny") as caught:
        evaluate(context, {"eval_examples": foreign})

    assert caught.value.code == "tokenizer_mismatch"


def test_cancel_stops_at_the_next_check(context: RecordingContext, examples: Examples) -> None:
    context.cancel_after_checks = 2

    with pytest.raises(Canceled):
        evaluate(context, {"eval_examples": examples})

    assert not (context.workdir / "report.json").exists()
