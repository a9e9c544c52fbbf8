from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from celery_workers.contract import UserInputError
from celery_workers.modeling.loading import check_base_folder, is_adapter_folder, load_adapter, load_base, load_tokenizer


@pytest.fixture
def copied(tiny_model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


def test_base_comes_in_evaluation_mode_in_the_type_asked_for(tiny_model_folder: Path) -> None:
    model = load_base(tiny_model_folder, dtype=torch.bfloat16)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_pickled_weights_are_refused_by_name(copied: Path) -> None:
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(UserInputError, match=r"pickled weights only \(pytorch_model\.bin\)"):
        load_base(copied, dtype=torch.float32)


def test_a_model_that_brings_code_is_refused(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "evil.Model"}}))
    with pytest.raises(UserInputError, match="never run here"):
        load_base(copied, dtype=torch.float32)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"no config\.json"):
        check_base_folder(tmp_path)


def test_truncated_weights_are_the_users_error(copied: Path) -> None:
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserInputError, match="cannot be loaded"):
        load_base(copied, dtype=torch.float32)


def test_weights_with_holes_are_refused_rather_than_filled_with_random_numbers(copied: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copied / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserInputError, match=r"1 are missing: model\.layers\.1\.mlp\.up_proj\.weight") as caught:
        load_base(copied, dtype=torch.float32)
    assert caught.value.code == "incomplete_model"


def test_adapter_with_holes_is_refused(tiny_model_folder: Path, tiny_adapter_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    adapter = Path(shutil.copytree(tiny_adapter_folder, tmp_path / "adapter"))
    weights = load_file(adapter / "adapter_model.safetensors")
    name = next(iter(weights))
    del weights[name]
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserInputError, match=rf"{name} is missing in the adapter") as caught:
        load_adapter(load_base(tiny_model_folder, dtype=torch.float32), adapter)
    assert caught.value.code == "adapter_of_another_base"


def test_adapter_changes_the_logits_and_pickled_adapters_are_refused(
    tiny_model_folder: Path, tiny_adapter_folder: Path, tmp_path: Path
) -> None:
    tokens = torch.arange(3, 20)[None]
    base = load_base(tiny_model_folder, dtype=torch.float32)
    with torch.no_grad():
        before = base(tokens).logits
        after = load_adapter(base, tiny_adapter_folder)(tokens).logits
    assert not torch.allclose(before, after)
    assert is_adapter_folder(tiny_adapter_folder)

    pickled = Path(shutil.copytree(tiny_adapter_folder, tmp_path / "adapter"))
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    with pytest.raises(UserInputError, match="pickled"):
        load_adapter(load_base(tiny_model_folder, dtype=torch.float32), pickled)


def test_adapter_of_another_model_is_refused(copied: Path, tiny_adapter_folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    narrow = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1
    )
    LlamaForCausalLM(narrow).save_pretrained(copied)
    with pytest.raises(UserInputError, match="does not fit the base model"):
        load_adapter(load_base(copied, dtype=torch.float32), tiny_adapter_folder)


def test_tokenizer_keeps_its_chat_template(tiny_model_folder: Path, tmp_path: Path) -> None:
    assert load_tokenizer(tiny_model_folder).chat_template
    with pytest.raises(UserInputError, match="tokenizer cannot be loaded"):
        load_tokenizer(tmp_path)
