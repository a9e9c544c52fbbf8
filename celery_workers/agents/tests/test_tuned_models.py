"""What each method makes, through training, evaluation and export: all three must see the same model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from celery_workers.agents.evaluation import EvaluationAgent
from celery_workers.agents.export import ExportAgent, ExportOutputs
from celery_workers.agents.training import TrainingAgent, TrainingOutputs
from celery_workers.contract import Examples, Model, UserInputError
from celery_workers.contract.testing import run_agent
from celery_workers.modeling.loading import load_base
from celery_workers.training.tests.conftest import write_examples

BASE = "local:tiny"
TRAINING = {
    "epochs": 2,
    "learning_rate": 0.003,
    "lora_r": 4,
    "lora_dropout": 0.0,
    "target_modules": "all-linear",
    "precision": "float32",
}
CASES = {
    "llama-dora": ("llama", {"use_dora": True, "use_rslora": True}),
    "gpt2-lora": ("gpt2", {}),
    "gpt2-dora": ("gpt2", {"use_dora": True}),
    "gemma-saved": ("gemma", {"modules_to_save": "embed_tokens"}),
    "qwen2-qlora": ("qwen2", {"method": "qlora"}),
    "gpt2-qlora": ("gpt2", {"method": "qlora", "use_dora": True}),
    "mixtral-qlora": ("mixtral", {"method": "qlora", "use_rslora": True}),
    "llama-full": ("llama", {"method": "full"}),
    "gpt2-full": ("gpt2", {"method": "full"}),
    "gemma-part": ("gemma", {"method": "full", "train_modules": "layers.1,embed_tokens"}),
}
FolderOf = Callable[[str], Path]


class Workshop:
    """Runs agents one after the other on one base and one set of examples."""

    def __init__(self, folder: Path, base_folder: Path) -> None:
        self.folder, self.references, self.count = folder, {BASE: base_folder}, 0
        written = write_examples(folder / "examples", lengths=[9, 20, 5, 33, 12, 7, 16, 25], base_folder=base_folder)
        self.examples: Examples = replace(written, metadata={**written.metadata, "format": "text"})

    def run(self, agent: type, config: dict[str, object], **inputs: object) -> object:
        self.count += 1
        workdir = self.folder / f"node-{self.count}"
        workdir.mkdir()
        return run_agent(agent, config, inputs, workdir=workdir, references=self.references)

    def train(self, **config: object) -> TrainingOutputs:
        model = config.pop("model", None)
        given = {"examples": self.examples, "eval_examples": self.examples, **({"model": model} if model else {})}
        outputs = self.run(TrainingAgent, {**TRAINING, **config}, **given)
        assert isinstance(outputs, TrainingOutputs)
        return outputs

    def losses(self, model: Model, **config: object) -> dict[str, float]:
        settings = {"metrics": ["loss"], "generate": False, "precision": "float32", **config}
        outputs = self.run(EvaluationAgent, settings, eval_examples=self.examples, model=model)
        subjects = json.loads(outputs.report.path.read_text())["data"]["subjects"]
        return {subject["name"]: subject["scores"]["loss"] for subject in subjects}

    def merge(self, model: Model) -> tuple[Model, dict]:
        outputs = self.run(ExportAgent, {"formats": ["merged"]}, model=model)
        assert isinstance(outputs, ExportOutputs)
        return outputs.merged, json.loads(outputs.report.path.read_text())


@pytest.mark.parametrize("case", CASES)
def test_training_evaluation_and_export_see_the_same_model(case: str, tmp_path: Path, architecture_folder: FolderOf) -> None:
    architecture, config = CASES[case]
    workshop = Workshop(tmp_path, architecture_folder(architecture))
    trained = workshop.train(**config)
    metadata = trained.model.metadata

    over = "nf4" if config.get("method") == "qlora" else "full"
    losses = workshop.losses(trained.model, base_weights=over)
    assert losses["tuned"] == pytest.approx(metadata["eval_loss"], rel=1e-5)
    if metadata["model_kind"] == "adapter":
        assert losses["tuned"] < losses["base"]

    merged, report = workshop.merge(trained.model)
    assert workshop.losses(merged)["tuned"] == pytest.approx(workshop.losses(trained.model)["tuned"], rel=1e-4)
    assert (report["data"]["as_trained"] is not None) == (over == "nf4")
    if over == "nf4":
        assert 0 < report["data"]["as_trained"]["kl_nats"] < 1
        assert [row[0] for row in report["tables"][0]["rows"]] == ["merged", "as trained"]
        assert "over the base in nf4 that it was trained over" in report["verdict"]


def test_metadata_says_method_rank_quantization_and_share(tmp_path: Path, architecture_folder: FolderOf) -> None:
    workshop = Workshop(tmp_path, architecture_folder("llama"))
    adapter = workshop.train(method="qlora", use_dora=True, max_steps=1).model.metadata
    assert {key: adapter[key] for key in ("method", "model_kind", "lora_r", "use_dora", "use_rslora", "quantization")} == {
        "method": "qlora",
        "model_kind": "adapter",
        "lora_r": 4,
        "use_dora": True,
        "use_rslora": False,
        "quantization": "nf4",
    }
    assert adapter["trainable_share"] == adapter["trainable_parameters"] / adapter["total_parameters"]
    outputs = workshop.train(method="full", train_modules="lm_head", max_steps=1)
    full = outputs.model.metadata
    assert (full["model_kind"], full["train_modules"], full["trainable_parameters"]) == ("merged", ["lm_head"], 259 * 64)
    assert outputs.report.metadata["summary"]["trainable_share"] == full["trainable_share"]


def test_full_weights_load_with_plain_transformers_and_only_named_modules_have_changed(
    tmp_path: Path, architecture_folder: FolderOf
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = architecture_folder("llama")
    model = Workshop(tmp_path, folder).train(method="full", train_modules="layers.1").model
    tuned, base = AutoModelForCausalLM.from_pretrained(model.path), load_base(folder, dtype=torch.float32)
    assert AutoTokenizer.from_pretrained(model.path).chat_template
    before = dict(base.named_parameters())
    changed = {name for name, item in tuned.named_parameters() if not torch.equal(item, before[name])}
    assert changed == {name for name in before if name.startswith("model.layers.1.")}
    assert (model.path / "config.json").read_text().count(str(folder)) == 0


def test_full_weights_are_trained_on_and_adapters_laid_over_them(tmp_path: Path, architecture_folder: FolderOf) -> None:
    workshop = Workshop(tmp_path, architecture_folder("llama"))
    first = workshop.train(method="full").model
    second = workshop.train(method="full", model=replace(first, sha256="f" * 64), epochs=1, learning_rate=1e-9).model
    assert second.metadata["eval_loss"] == pytest.approx(first.metadata["eval_loss"], rel=1e-5)
    assert (second.metadata["base_model"], second.metadata["source_sha256"]) == (BASE, "f" * 64)

    workshop.references["model:00000000-0000-0000-0000-000000000001"] = first.path  # as the platform resolves a registered one
    reference = "model:00000000-0000-0000-0000-000000000001"
    adapter = workshop.train(base_model=reference, epochs=1, learning_rate=1e-9).model
    assert adapter.metadata["base_model"] == reference
    assert adapter.metadata["eval_loss"] == pytest.approx(first.metadata["eval_loss"], rel=1e-5)
    assert workshop.losses(adapter)["base"] == pytest.approx(first.metadata["eval_loss"], rel=1e-5)


def test_an_adapter_of_one_method_is_trained_on_by_the_other(tmp_path: Path, architecture_folder: FolderOf) -> None:
    workshop = Workshop(tmp_path, architecture_folder("llama"))
    adapter = workshop.train(method="qlora", use_dora=True).model
    outputs = workshop.train(method="lora", model=adapter, lora_r=8, learning_rate=1e-9, epochs=1)
    again = outputs.model
    assert (again.metadata["lora_r"], again.metadata["use_dora"], again.metadata["quantization"]) == (4, True, None)
    settings = dict(json.loads(outputs.report.path.read_text())["tables"][0]["rows"])
    assert (settings["lora_r"], settings["use_dora"]) == (4, True)
    assert again.metadata["eval_loss"] == pytest.approx(workshop.losses(adapter)["tuned"], rel=1e-5)


def test_an_adapter_cannot_be_trained_in_full(tmp_path: Path, architecture_folder: FolderOf) -> None:
    workshop = Workshop(tmp_path, architecture_folder("llama"))
    adapter = workshop.train(max_steps=1).model
    with pytest.raises(UserInputError, match="with method full the model input must be full weights, got adapter") as caught:
        workshop.train(method="full", model=adapter)
    assert caught.value.code == "unsupported_model"


def test_two_adapters_of_one_base_do_not_touch_it(tmp_path: Path, architecture_folder: FolderOf) -> None:
    workshop = Workshop(tmp_path, architecture_folder("llama"))
    first, second = (workshop.train(seed=seed).model for seed in (1, 2))
    one, two = workshop.losses(first), workshop.losses(second)
    assert one["base"] == two["base"]
    assert one["tuned"] != two["tuned"]
