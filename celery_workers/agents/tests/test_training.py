from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from celery_workers.agents.training import TrainingAgent, TrainingOutputs
from celery_workers.contract import Examples, Model, UserInputError
from celery_workers.contract.agent import describe
from celery_workers.contract.context import ReportDocument
from celery_workers.contract.testing import check_agent, run_agent
from celery_workers.modeling.loading import load_adapter, load_base
from celery_workers.training.tests.conftest import write_examples

BASE = "local:tiny"
CONFIG = {"epochs": 2, "target_modules": "all-linear", "lora_r": 4, "learning_rate": 0.01, "precision": "float32"}


@pytest.fixture
def examples(tmp_path: Path, tiny_model_folder: Path) -> Examples:
    return write_examples(tmp_path / "examples", lengths=[9, 20, 5, 33, 12, 7, 16, 25], base_folder=tiny_model_folder)


def run(
    folder: Path, base_folder: Path, examples: Examples, config: dict[str, object] | None = None, **inputs: object
) -> TrainingOutputs:
    folder.mkdir()
    outputs = run_agent(
        TrainingAgent,
        {**CONFIG, **(config or {})},
        {"examples": examples, **inputs},
        workdir=folder,
        references={BASE: base_folder},
    )
    assert isinstance(outputs, TrainingOutputs)
    return outputs


def adapter_digest(model: Model) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(model.path.iterdir())}


def test_agent_keeps_the_contract() -> None:
    check_agent(describe(TrainingAgent, name="training"))


def test_adapter_loads_with_plain_peft_and_has_learned(tmp_path: Path, tiny_model_folder: Path, examples: Examples) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    outputs = run(tmp_path / "run", tiny_model_folder, examples, {"epochs": 10}, eval_examples=examples)
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    tuned = PeftModel.from_pretrained(base, outputs.model.path)
    tokenizer = AutoTokenizer.from_pretrained(outputs.model.path)
    row = torch.arange(3, 30)[None]
    with torch.no_grad(), tuned.disable_adapter():
        before = tuned(row).logits
    assert not torch.allclose(tuned(row).logits, before)
    assert tokenizer.chat_template
    config = json.loads((outputs.model.path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == BASE
    losses = ReportDocument.model_validate_json(outputs.report.path.read_text()).figures[0].series
    assert [series.name for series in losses] == ["training", "evaluation"]
    assert losses[1].y[-1] < losses[1].y[0]


def test_metadata_says_what_was_trained(tmp_path: Path, tiny_model_folder: Path, examples: Examples) -> None:
    outputs = run(tmp_path / "run", tiny_model_folder, examples)
    metadata = outputs.model.metadata
    assert metadata["model_kind"] == "adapter"
    assert metadata["base_model"] == BASE
    assert metadata["steps"] == 4
    assert metadata["tokens"] == 2 * 127
    assert outputs.report.metadata["summary"]["final_loss"] == metadata["final_loss"]


def test_same_inputs_give_the_same_bytes(tmp_path: Path, tiny_model_folder: Path, examples: Examples) -> None:
    first = run(tmp_path / "first", tiny_model_folder, examples)
    again = run(tmp_path / "again", tiny_model_folder, examples)
    assert adapter_digest(first.model) == adapter_digest(again.model)


def test_an_adapter_is_trained_on(tmp_path: Path, tiny_model_folder: Path, examples: Examples) -> None:
    first = run(tmp_path / "first", tiny_model_folder, examples, {"epochs": 8})
    second = run(
        tmp_path / "second", tiny_model_folder, examples, {"learning_rate": 1e-9, "lora_dropout": 0}, model=first.model
    )
    tokens = torch.arange(3, 30)[None]
    logits = [
        load_adapter(load_base(tiny_model_folder, dtype=torch.float32), outputs.model.path)(tokens).logits
        for outputs in (first, second)
    ]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-3, atol=1e-3)
    assert second.model.metadata["base_model"] == BASE
    assert second.model.metadata["lora_r"] == 4


def test_full_weights_as_model_input_are_refused(tmp_path: Path, tiny_model_folder: Path, examples: Examples) -> None:
    merged = Model(path=tiny_model_folder, metadata={"model_kind": "merged", "base_model": BASE})
    with pytest.raises(UserInputError, match="must be an adapter to train on, got merged"):
        run(tmp_path / "run", tiny_model_folder, examples, model=merged)


def test_adapter_of_another_base_is_refused(
    tmp_path: Path, tiny_model_folder: Path, tiny_adapter_folder: Path, examples: Examples
) -> None:
    adapter = Model(path=tiny_adapter_folder, metadata={"model_kind": "adapter", "base_model": "local:other"})
    with pytest.raises(UserInputError, match="local:other"):
        run(tmp_path / "run", tiny_model_folder, examples, {"base_model": BASE}, model=adapter)


def test_examples_for_another_tokenizer_are_refused(tmp_path: Path, tiny_model_folder: Path, examples: Examples) -> None:
    foreign = replace(examples, metadata={**examples.metadata, "tokenizer_digest": "another"})
    with pytest.raises(UserInputError, match="tokenizer"):
        run(tmp_path / "run", tiny_model_folder, foreign)
