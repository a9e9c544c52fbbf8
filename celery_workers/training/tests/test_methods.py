from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from celery_workers.contract import Examples, UserInputError
from celery_workers.modeling.loading import load_base
from celery_workers.modeling.skeleton import load_skeleton
from celery_workers.modeling.tests.architectures import ARCHITECTURES
from celery_workers.training.config import TrainingConfig
from celery_workers.training.lora import add_lora, trainable_parameters
from celery_workers.training.loss import computing_in
from celery_workers.training.methods import TrainedModel, load_training_base, plan_method, prepare_model
from celery_workers.training.sources import Sources

FolderOf = Callable[[str], Path]
CPU = torch.device("cpu")
TOKENS = torch.arange(3, 40)[None]
CONFIGS = {
    "lora": {"method": "lora"},
    "dora": {"method": "lora", "use_dora": True, "use_rslora": True},
    "qlora": {"method": "qlora"},
    "qlora-dora": {"method": "qlora", "use_dora": True},
    "full": {"method": "full"},
    "layer": {"method": "full", "train_modules": "1.mlp"},
}


def config_of(name: str, **others: object) -> TrainingConfig:
    adapters = {"target_modules": "all-linear", "lora_r": 4, "lora_dropout": 0.0}
    return TrainingConfig.model_validate({**adapters, **CONFIGS[name], **others})


def sources_of(folder: Path, adapter: Path | None = None) -> Sources:
    return Sources(base_folder=folder, examples=Examples(path=folder), adapter_folder=adapter)


def load(folder: Path, config: TrainingConfig, precision: str = "float32", adapter: Path | None = None) -> TrainedModel:
    sources = sources_of(folder, adapter)
    return prepare_model(load_training_base(config, sources, device=CPU, precision=precision), config, sources)


def shapes(model: TrainedModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in trainable_parameters(model).items()}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_method_trains_what_it_planned_in_float32(
    architecture: str, name: str, precision: str, architecture_folder: FolderOf
) -> None:
    folder, config = architecture_folder(architecture), config_of(name)
    planned = shapes(plan_method(load_skeleton(folder), config, sources_of(folder)))
    model = load(folder, config, precision).train()
    with computing_in(precision, CPU):
        model(input_ids=TOKENS, labels=TOKENS, use_cache=False).loss.backward()
    trained = trainable_parameters(model)
    assert shapes(model) == planned
    assert {parameter.dtype for parameter in trained.values()} == {torch.float32}
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []


def test_train_modules_are_trained_and_nothing_else(architecture_folder: FolderOf) -> None:
    model = load(architecture_folder("llama"), config_of("full", train_modules="layers.1, lm_head"))
    assert {name.partition(".1.")[0] for name in shapes(model)} == {"model.layers", "lm_head.weight"}
    with pytest.raises(UserInputError, match=r"train_modules must be among .*q_proj.* got layers\.2") as caught:
        load(architecture_folder("llama"), config_of("full", train_modules="layers.2"))
    assert caught.value.field == "train_modules"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("architecture", "saved"), [("llama", "embed_tokens"), ("gpt2", "ln_f"), ("gemma", "lm_head")])
def test_saved_modules_are_trained_whole_in_float32(
    architecture: str, saved: str, precision: str, architecture_folder: FolderOf
) -> None:
    model = load(architecture_folder(architecture), config_of("lora", modules_to_save=saved), precision).train()
    names = [name for name in shapes(model) if "modules_to_save" in name]
    assert names
    with computing_in(precision, CPU):
        model(input_ids=TOKENS, labels=TOKENS, use_cache=False).loss.backward()
    for name in names:
        parameter = trainable_parameters(model)[name]
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize("saved", ["embed_tokens", "lm_head", "embed_tokens,lm_head"])
def test_a_saved_embedding_stays_tied_to_the_head(saved: str, architecture_folder: FolderOf) -> None:
    model = load(architecture_folder("gemma"), config_of("lora", modules_to_save=saved))
    with torch.no_grad():
        before = model(TOKENS).logits
        next(item for name, item in trainable_parameters(model).items() if "modules_to_save" in name).mul_(2)
        after = model(TOKENS).logits
    assert not torch.allclose(after, before, rtol=0.2)
    merged = model.merge_and_unload()
    assert torch.equal(merged.get_output_embeddings().weight, merged.get_input_embeddings().weight)
    torch.testing.assert_close(merged(TOKENS).logits, after, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("saved", ["wte", "lm_head"])
def test_saving_embeddings_whose_tie_would_break_is_refused(saved: str, architecture_folder: FolderOf) -> None:
    with pytest.raises(UserInputError, match=rf"modules_to_save cannot hold {saved}: .* one weight") as caught:
        plan_method(
            load_skeleton(architecture_folder("gpt2")),
            config_of("lora", modules_to_save=saved),
            sources_of(architecture_folder("gpt2")),
        )
    assert caught.value.code == "tied_modules"


def test_an_adapter_of_fewer_layers_or_another_width_is_refused_before_the_weights(
    architecture_folder: FolderOf, tmp_path: Path
) -> None:
    folder, config = architecture_folder("llama"), config_of("lora")
    adapter = tmp_path / "adapter"
    add_lora(load_base(folder, dtype=torch.float32), config).save_pretrained(adapter)
    sources = sources_of(folder, adapter)
    assert shapes(plan_method(load_skeleton(folder), config, sources)) == shapes(load(folder, config, adapter=adapter))
    for change in ({"num_hidden_layers": 3}, {"num_hidden_layers": 1}, {"intermediate_size": 96}):
        other = Path(shutil.copytree(folder, tmp_path / "-".join(change)))
        (other / "model.safetensors").write_bytes(b"never read")
        _edit(other / "config.json", change)
        with pytest.raises(UserInputError, match="belongs to another base model") as caught:
            plan_method(load_skeleton(other), config, sources)
        assert caught.value.code == "adapter_of_another_base"
        shutil.rmtree(other)


def test_an_adapter_of_another_kind_is_refused(architecture_folder: FolderOf, tmp_path: Path) -> None:
    from peft import IA3Config, get_peft_model

    folder = architecture_folder("llama")
    ia3 = IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj"], feedforward_modules=[])
    get_peft_model(load_base(folder, dtype=torch.float32), ia3).save_pretrained(tmp_path)
    with pytest.raises(UserInputError, match="must be a LoRA adapter"):
        plan_method(load_skeleton(folder), config_of("lora"), sources_of(folder, tmp_path))


def _edit(path: Path, change: dict[str, object]) -> None:
    import json

    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
