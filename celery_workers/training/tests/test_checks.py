from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from celery_workers.contract import UserInputError
from celery_workers.data.examples_file import open_examples
from celery_workers.modeling.loading import load_base
from celery_workers.modeling.skeleton import load_skeleton
from celery_workers.training.checks import LeastMemory, check_fits, check_training, least_memory
from celery_workers.training.config import TrainingConfig
from celery_workers.training.lora import add_lora
from celery_workers.training.methods import plan_method
from celery_workers.training.sources import Sources
from celery_workers.training.tests.conftest import write_examples

Edit = Callable[[Path], None]


@pytest.fixture
def blank(tmp_path: Path, tiny_model_folder: Path) -> Path:
    """The tiny model with a weight file that cannot be read: whatever is refused here is refused before the weights."""
    folder = Path(shutil.copytree(tiny_model_folder, tmp_path / "blank"))
    (folder / "model.safetensors").write_bytes(b"never read")
    return folder


def check(config: TrainingConfig, sources: Sources) -> None:
    rows = open_examples(sources.examples.path)
    eval_rows = open_examples(sources.eval_examples.path) if sources.eval_examples else None
    check_training(config, sources, rows=rows, eval_rows=eval_rows, device=torch.device("cpu"))


def change_config(folder: Path, **change: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def test_what_fits_together_passes_without_reading_weights(sources: Sources, blank: Path) -> None:
    for method in ("lora", "qlora", "full"):
        check(TrainingConfig(method=method), replace(sources, base_folder=blank))
    with pytest.raises(UserInputError, match="cannot be loaded"):
        load_base(blank, dtype=torch.float32)


@pytest.mark.parametrize(
    ("config", "code", "field"),
    [
        ({"target_modules": "query_key_value"}, "unknown_target_modules", "target_modules"),
        ({"lora_r": 64}, "rank_out_of_range", "lora_r"),
        ({"modules_to_save": "score"}, "unknown_modules_to_save", "modules_to_save"),
        ({"method": "qlora", "target_modules": "h"}, "unknown_target_modules", "target_modules"),
        ({"method": "full", "train_modules": "layers.9"}, "unknown_train_modules", "train_modules"),
    ],
    ids=["targets", "rank", "saved", "qlora-targets", "parts"],
)
def test_a_config_that_the_model_cannot_serve_is_refused(
    config: dict[str, object], code: str, field: str, sources: Sources, blank: Path
) -> None:
    with pytest.raises(UserInputError) as caught:
        check(TrainingConfig.model_validate(config), replace(sources, base_folder=blank))
    assert (caught.value.code, caught.value.field) == (code, field)


def _pickle_the_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (_pickle_the_weights, "pickled_weights"),
        (lambda folder: change_config(folder, auto_map={"AutoModelForCausalLM": "evil.Model"}), "remote_code"),
        (lambda folder: change_config(folder, model_type="unheard-of"), "unusable_model"),
        (lambda folder: change_config(folder, quantization_config={"quant_method": "gptq"}), "quantized_base"),
        (lambda folder: (folder / "config.json").unlink(), "unusable_model"),
    ],
    ids=["pickle", "remote-code", "architecture", "quantized", "no-config"],
)
def test_a_folder_that_is_no_safe_model_is_refused(edit: Edit, code: str, sources: Sources, blank: Path) -> None:
    edit(blank)
    with pytest.raises(UserInputError) as caught:
        check(TrainingConfig(), replace(sources, base_folder=blank))
    assert caught.value.code == code


@pytest.mark.parametrize("which", ["examples", "eval_examples"])
def test_rows_longer_than_the_context_are_refused_by_number(which: str, sources: Sources, blank: Path) -> None:
    change_config(blank, max_position_embeddings=19)
    long_row = {"examples": "at most 19 tokens, .*; 3 do not: 2, 4, 8", "eval_examples": "evaluation examples .*; 1 do not: 2"}
    kept = replace(sources, base_folder=blank, **({} if which == "examples" else {"examples": sources.eval_examples}))
    if which == "eval_examples":
        short = write_examples(blank / "short", lengths=[6], base_folder=blank)
        kept = replace(sources, base_folder=blank, examples=short)
    with pytest.raises(UserInputError, match=long_row[which]) as caught:
        check(TrainingConfig(), kept)
    assert caught.value.code == "too_long"


def test_ids_beyond_the_vocabulary_and_a_foreign_tokenizer_are_refused(sources: Sources, blank: Path) -> None:
    change_config(blank, vocab_size=100)
    with pytest.raises(UserInputError, match="must be 0 to 99") as caught:
        check(TrainingConfig(), replace(sources, base_folder=blank))
    assert caught.value.code == "wrong_vocabulary"
    examples = replace(sources.examples, metadata={**sources.examples.metadata, "tokenizer_digest": "other"})
    with pytest.raises(UserInputError) as caught:
        check(TrainingConfig(), replace(sources, examples=examples))
    assert caught.value.code == "wrong_tokenizer"


def test_an_adapter_of_another_base_and_a_pickled_one_are_refused(
    sources: Sources, blank: Path, tiny_adapter_folder: Path, tmp_path: Path
) -> None:
    check(TrainingConfig(), replace(sources, base_folder=blank, adapter_folder=tiny_adapter_folder))
    change_config(blank, num_hidden_layers=1)
    with pytest.raises(UserInputError, match=r"14 of its weights do not fit") as caught:
        check(TrainingConfig(), replace(sources, base_folder=blank, adapter_folder=tiny_adapter_folder))
    assert caught.value.code == "adapter_of_another_base"
    pickled = Path(shutil.copytree(tiny_adapter_folder, tmp_path / "adapter"))
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    with pytest.raises(UserInputError, match="pickled") as caught:
        check(TrainingConfig(), replace(sources, adapter_folder=pickled))
    assert caught.value.code == "pickled_weights"


def test_a_model_of_a_hundred_gigabytes_is_refused_before_its_weights(sources: Sources, blank: Path) -> None:
    change_config(blank, num_hidden_layers=100, hidden_size=65_536, intermediate_size=262_144)
    with pytest.raises(UserInputError, match=r"one row at a time must fit into .* use method qlora") as caught:
        check(TrainingConfig(), replace(sources, base_folder=blank))
    assert caught.value.code == "cannot_fit"
    assert caught.value.evidence["weights_bytes"] > 1e12


def test_least_memory_is_below_what_training_takes_and_follows_the_method(sources: Sources) -> None:
    rows = open_examples(sources.examples.path)

    def least(**config: object) -> LeastMemory:
        settings = TrainingConfig.model_validate({"precision": "float32", "target_modules": "q_proj", "lora_r": 4, **config})
        skeleton = load_skeleton(sources.base_folder)
        weights = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64) if settings.method == "qlora" else 0
        return least_memory(plan_method(skeleton, settings, sources), settings, rows, quantized_weights=weights)

    model = load_base(sources.base_folder, dtype=torch.float32)
    full = sum(parameter.numel() for parameter in model.parameters())
    adapters = sum(
        item.numel()
        for item in add_lora(model, TrainingConfig(target_modules="q_proj", lora_r=4)).parameters()
        if item.requires_grad
    )
    assert (least(method="full").weights, least(method="full").optimizer) == (4 * full, 8 * full)
    assert least(method="full", optimizer="adamw_8bit").optimizer == 2 * full
    assert (least().weights, least().gradients) == (4 * (full + adapters), 4 * adapters)
    assert least(method="qlora").weights < 0.65 * least().weights
    longest, supervised, vocabulary_size = 33, 17, 259
    assert least().row == longest * 32 * 2 * 4 + supervised * vocabulary_size * 8


def test_a_row_that_cannot_fit_even_alone_is_refused_with_what_to_change() -> None:
    least = LeastMemory(weights=1_000, gradients=10, optimizer=20, row=5_000)
    with pytest.raises(UserInputError, match=r"the longest, of 9 tokens, .* lower max_length_tokens"):
        check_fits(least, limit_bytes=6_029, longest_tokens=9, config=TrainingConfig())
    check_fits(least, limit_bytes=6_030, longest_tokens=9, config=TrainingConfig())
