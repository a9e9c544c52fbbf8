from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from celery_workers.contract import UserInputError
from celery_workers.modeling.loading import load_base
from celery_workers.modeling.skeleton import load_skeleton
from celery_workers.modeling.tests.architectures import ARCHITECTURES, LINEAR
from celery_workers.training.config import TrainingConfig
from celery_workers.training.lora import add_lora, linear_layers, resolve_modules, resolve_targets, trainable_parameters

FolderOf = Callable[[str], Path]


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


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_linear_is_every_linear_layer_but_the_head(architecture: str, architecture_folder: FolderOf) -> None:
    skeleton = load_skeleton(architecture_folder(architecture))
    assert resolve_targets(skeleton, ["all-linear"]) == LINEAR[architecture]
    assert len(linear_layers(skeleton)) == 2 * (len(LINEAR[architecture]) + (architecture == "gpt2"))  # two are called c_proj


def test_a_longer_end_of_a_name_means_that_layer_alone(architecture_folder: FolderOf) -> None:
    skeleton = load_skeleton(architecture_folder("gpt2"))
    model = add_lora(skeleton, TrainingConfig(target_modules="h.1.attn.c_proj", lora_r=4))
    assert {name.partition(".lora_")[0] for name in trainable_parameters(model)} == {
        "base_model.model.transformer.h.1.attn.c_proj"
    }


def test_unknown_modules_are_refused_with_those_that_exist(tiny_model_folder: Path) -> None:
    skeleton = load_skeleton(tiny_model_folder)
    with pytest.raises(UserInputError, match=r"among down_proj, .*, got query_key_value") as caught:
        resolve_targets(skeleton, ["q_proj", "query_key_value"])
    assert caught.value.field == "target_modules"
    with pytest.raises(UserInputError, match="got j_proj"):  # an end of q_proj's letters, but not of its parts
        resolve_targets(skeleton, ["j_proj"])
    with pytest.raises(UserInputError, match=r"among .*embed_tokens.*lm_head.*, got head") as caught:
        resolve_modules(skeleton, ["head"], field="modules_to_save")
    assert caught.value.field == "modules_to_save"


def test_a_rank_above_the_narrowest_target_is_refused(tiny_model_folder: Path) -> None:
    with pytest.raises(UserInputError, match=r"lora_r must be <= 16, .* model\.layers\.0\.self_attn\.v_proj, got 17") as caught:
        add_lora(load_skeleton(tiny_model_folder), TrainingConfig(target_modules="q_proj,v_proj", lora_r=17))
    assert caught.value.field == "lora_r"
    add_lora(load_skeleton(tiny_model_folder), TrainingConfig(target_modules="q_proj", lora_r=17))


def test_a_module_is_adapted_or_saved_but_not_both(tiny_model_folder: Path) -> None:
    with pytest.raises(UserInputError, match="not both: q_proj"):
        add_lora(load_skeleton(tiny_model_folder), TrainingConfig(target_modules="q_proj,v_proj", modules_to_save="q_proj"))


def test_rslora_scales_by_the_root_of_the_rank(tiny_model_folder: Path) -> None:
    config = TrainingConfig(target_modules="q_proj", lora_r=16, lora_alpha=32)
    plain = add_lora(load_skeleton(tiny_model_folder), config)
    stable = add_lora(load_skeleton(tiny_model_folder), config.model_copy(update={"use_rslora": True}))
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    assert plain.get_submodule(name).scaling["default"] == 2.0
    assert stable.get_submodule(name).scaling["default"] == 8.0
