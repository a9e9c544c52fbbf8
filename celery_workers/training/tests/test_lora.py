from __future__ import annotations

from pathlib import Path

import pytest
import torch

from celery_workers.contract import UserInputError
from celery_workers.modeling.loading import load_base
from celery_workers.training.config import TrainingConfig
from celery_workers.training.lora import add_lora, linear_names, resolve_targets, trainable_parameters

LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def test_new_adapter_leaves_the_logits_as_they_were(tiny_model_folder: Path) -> None:
    tokens = torch.arange(3, 40)[None]
    base = load_base(tiny_model_folder, dtype=torch.float32)
    with torch.no_grad():
        before = base(tokens).logits
        after = add_lora(base, TrainingConfig(target_modules="all-linear")).eval()(tokens).logits
    assert torch.equal(before, after)


def test_only_adapters_are_trained_in_float32_over_a_bfloat16_base(tiny_model_folder: Path) -> None:
    base = load_base(tiny_model_folder, dtype=torch.bfloat16)
    trained = trainable_parameters(add_lora(base, TrainingConfig(target_modules="q_proj,v_proj", lora_r=4)))
    assert len(trained) == 2 * 2 * 2  # two layers, two modules, A and B
    assert {parameter.dtype for parameter in trained.values()} == {torch.float32}
    assert all("lora_" in name for name in trained)


def test_all_linear_is_every_linear_layer_but_the_head(tiny_model_folder: Path) -> None:
    base = load_base(tiny_model_folder, dtype=torch.float32)
    assert linear_names(base) == LINEAR
    assert resolve_targets(base, ["all-linear"]) == LINEAR


def test_unknown_modules_are_refused_with_those_that_exist(tiny_model_folder: Path) -> None:
    base = load_base(tiny_model_folder, dtype=torch.float32)
    with pytest.raises(UserInputError, match=r"among down_proj, .*, got query_key_value") as caught:
        resolve_targets(base, ["q_proj", "query_key_value"])
    assert caught.value.field == "target_modules"
