from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from celery_workers.contract import UserInputError
from celery_workers.modeling.loading import load_base
from celery_workers.modeling.quantization import load_quantized_base
from celery_workers.modeling.tests.architectures import ARCHITECTURES

FolderOf = Callable[[str], Path]
TOKENS = torch.arange(3, 40)[None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_linear_layer_but_the_head_is_in_nf4_and_close_to_the_original(
    architecture: str, dtype: torch.dtype, architecture_folder: FolderOf
) -> None:
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    folder = architecture_folder(architecture)
    exact, quantized = load_base(folder, dtype=torch.float32), load_quantized_base(folder, dtype=dtype)
    layers = {name: module for name, module in quantized.named_modules() if isinstance(module, Linear4bit)}
    assert len(layers) == 2 * {"gpt2": 4, "mixtral": 4}.get(architecture, 7)
    for name, layer in layers.items():
        state = layer.weight.quant_state
        assert (state.quant_type, state.nested, layer.weight.dtype) == ("nf4", True, torch.uint8)
        original = exact.get_submodule(name).weight
        original = original.T if architecture == "gpt2" else original  # Conv1D
        restored = dequantize_4bit(layer.weight.data, state).float()
        assert (restored - original).norm() < 0.15 * original.norm()  # nf4 keeps random normal weights to about 0.1


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
def test_gradients_below_are_the_same_after_a_pass_in_evaluation_mode(architecture: str, architecture_folder: FolderOf) -> None:
    """bitsandbytes repacks weights in such a pass on some processors, after which the layers let no gradient through."""

    def gradient(model: torch.nn.Module) -> torch.Tensor:
        embeddings = model.get_input_embeddings()(TOKENS).detach().requires_grad_()
        model.train()(inputs_embeds=embeddings, labels=TOKENS, use_cache=False).loss.backward()
        return embeddings.grad

    folder = architecture_folder(architecture)
    fresh, used = (load_quantized_base(folder, dtype=torch.float32) for _ in range(2))
    for model in (fresh, used):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    with torch.no_grad():
        used.eval()(TOKENS)
    expected = gradient(fresh)
    assert expected.abs().max() > 0
    assert torch.equal(gradient(used), expected)


def test_weights_take_little_more_than_half_a_byte_each(architecture_folder: FolderOf) -> None:
    model = load_quantized_base(architecture_folder("llama"), dtype=torch.bfloat16)
    layer = model.get_submodule("model.layers.0.mlp.up_proj")
    assert layer.weight.nbytes * 2 == layer.in_features * layer.out_features
    assert layer.weight.quant_state.absmax.dtype == torch.uint8


def test_a_base_that_is_quantized_already_is_refused(architecture_folder: FolderOf, tmp_path: Path) -> None:
    model = load_quantized_base(architecture_folder("llama"), dtype=torch.float32)
    model.save_pretrained(tmp_path / "quantized")
    for load in (load_base, load_quantized_base):
        with pytest.raises(UserInputError, match="quantized already") as caught:
            load(tmp_path / "quantized", dtype=torch.float32)
        assert caught.value.code == "quantized_base"
