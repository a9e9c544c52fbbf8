from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from celery_workers.modeling.loading import load_base
from celery_workers.training.fused_linears import LinearGroup
from celery_workers.training.linear_groups import fuse_linears

TOKENS = torch.arange(5, 37).view(2, 16)
SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
ALL = "all-linear"


def with_adapters(base: torch.nn.Module, **options: object) -> PeftModel:
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ALL, "task_type": "CAUSAL_LM", **options}
    torch.manual_seed(1)
    model = get_peft_model(base, LoraConfig(**settings)).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
    return model


def tiny(folder: Path, *, dtype: torch.dtype = torch.float32, **options: object) -> PeftModel:
    return with_adapters(load_base(folder, dtype=dtype), **options)


def fuse(model: PeftModel) -> list[LinearGroup]:
    def run() -> torch.Tensor:
        with torch.no_grad():
            return model(TOKENS).logits

    return fuse_linears(model, run)


def gradients(model: PeftModel) -> dict[str, torch.Tensor]:
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    logits = model(TOKENS).logits
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    return dict(zip(parameters, torch.autograd.grad((logits.float() * weight).mean(), list(parameters.values())), strict=True))


def together(found: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in found.values()])


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], *, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= tolerance * gradient.norm(), name


def names_of(groups: list[LinearGroup], model: PeftModel) -> list[list[str]]:
    names = {module: name.rpartition(".")[2] for name, module in model.named_modules()}
    return [[names[member.layer] for member in group.joined.members] for group in groups]


def test_layers_that_read_the_same_tensor_are_found(tiny_model_folder: Path) -> None:
    model = tiny(tiny_model_folder)
    layer = [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]
    assert names_of(fuse(model), model) == layer * 2


def test_layers_without_an_adapter_join_those_with_one(tiny_model_folder: Path) -> None:
    model = tiny(tiny_model_folder, target_modules=["q_proj", "v_proj"])
    assert names_of(fuse(model), model) == [["q_proj", "k_proj", "v_proj"]] * 2


@pytest.mark.parametrize("targets", [ALL, ["q_proj", "v_proj"]])
def test_logits_and_gradients_are_those_of_peft(targets: str | list[str], tiny_model_folder: Path) -> None:
    model = tiny(tiny_model_folder, target_modules=targets, use_rslora=True)
    logits, expected = model(TOKENS).logits.detach(), gradients(model)
    assert fuse(model)
    torch.testing.assert_close(model(TOKENS).logits, logits, rtol=1e-5, atol=1e-5)
    assert_same(gradients(model), expected, tolerance=1e-5)


def test_gradients_in_bfloat16_are_as_exact_as_those_of_peft(tiny_model_folder: Path) -> None:
    model = tiny(tiny_model_folder, dtype=torch.bfloat16)
    of_peft = together(gradients(model))
    exact = together(gradients(tiny(tiny_model_folder, dtype=torch.bfloat16).float()))
    assert fuse(model)
    assert (together(gradients(model)) - exact).norm() <= 1.2 * (of_peft - exact).norm()


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("qwen2", {"num_key_value_heads": 2}),  # biases on query, key and value
        ("qwen3", {"num_key_value_heads": 2, "head_dim": 8}),
        ("gemma3_text", {"num_key_value_heads": 2, "head_dim": 8}),
        ("phi3", {"num_key_value_heads": 2, "pad_token_id": 0}),  # query, key and value in one layer
        ("olmo2", {"num_key_value_heads": 2}),
        ("gpt_neox", {}),
        ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32, "pad_token_id": 0}),
    ],
)
def test_many_architectures_train_as_with_peft(architecture: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **SIZES, **options)).eval()
    model = with_adapters(base)
    expected = gradients(model)
    assert fuse(model)
    assert_same(gradients(model), expected, tolerance=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: tiny(folder, use_dora=True),
        lambda folder: tiny(folder, target_modules=["embed_tokens"]),
        lambda folder: with_adapters(
            AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", n_embd=32, n_layer=1, n_head=4, vocab_size=64))
        ),
    ],
    ids=["dora", "embedding", "transposed weights"],
)
def test_what_is_not_a_plain_adapter_is_left_to_peft(change: Callable[[Path], PeftModel], tiny_model_folder: Path) -> None:
    model = change(tiny_model_folder)
    expected = gradients(model)
    assert fuse(model) == []
    assert_same(gradients(model), expected, tolerance=0)


def test_tied_weight_stays_in_its_place(tiny_model_folder: Path) -> None:
    model = tiny(tiny_model_folder)
    base = model.get_base_model()
    base.model.layers[0].mlp.up_proj.base_layer.weight = base.model.layers[1].mlp.up_proj.base_layer.weight
    groups = fuse(model)
    assert names_of(groups, model)[2] == ["gate_proj"]
    assert base.model.layers[0].mlp.up_proj.base_layer.weight is base.model.layers[1].mlp.up_proj.base_layer.weight


def test_changed_adapters_are_used_at_once(tiny_model_folder: Path) -> None:
    model = tiny(tiny_model_folder)
    fuse(model)
    before = model(TOKENS).logits
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.mul_(1.5)
    changed = model(TOKENS).logits.detach()
    assert not torch.allclose(before, changed)
    for module in model.modules():
        vars(module).pop("forward", None)
    torch.testing.assert_close(model(TOKENS).logits, changed)


def test_disabled_and_merged_adapters_compute_as_with_peft(tiny_model_folder: Path) -> None:
    model = tiny(tiny_model_folder)
    with_adapter = model(TOKENS).logits.detach()
    with model.disable_adapter():
        without = model(TOKENS).logits.detach()
    fuse(model)
    with model.disable_adapter():
        torch.testing.assert_close(model(TOKENS).logits, without)
    torch.testing.assert_close(model(TOKENS).logits, with_adapter)
    merged = model.merge_and_unload()
    torch.testing.assert_close(merged(TOKENS).logits, with_adapter, rtol=1e-4, atol=1e-4)


def test_generation_is_the_same(tiny_model_folder: Path) -> None:
    model = tiny(tiny_model_folder)
    settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(TOKENS)}
    expected = model.generate(input_ids=TOKENS, **settings)
    fuse(model)
    assert torch.equal(model.generate(input_ids=TOKENS, **settings), expected)


def test_gradient_checkpointing_draws_the_same_masks_again(tiny_model_folder: Path) -> None:
    found = []
    for is_checkpointing in (False, True):
        model = tiny(tiny_model_folder, lora_dropout=0.3)
        fuse(model)
        if is_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
        torch.manual_seed(5)
        found.append(gradients(model))
    assert_same(found[1], found[0], tolerance=1e-6)


def test_dropout_keeps_the_mean_and_is_off_in_evaluation(tiny_model_folder: Path) -> None:
    model = tiny(tiny_model_folder, lora_dropout=0.3)
    (group, *_others) = fuse(model)
    layer = group.joined.members[0].layer
    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    plain = layer(x)
    model.train()
    torch.manual_seed(0)
    drawn = torch.stack([layer(x) for _ in range(2000)])
    assert drawn.std(0).min() > 0
    assert ((drawn.mean(0) - plain).abs() <= 5 * drawn.std(0) / 2000**0.5 + 1e-6).all()


def test_gradients_with_dropout_are_those_of_the_drawn_mask(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from celery_workers.training import fused_linears

    model = tiny(tiny_model_folder, lora_dropout=0.3)
    (group, *_others) = fuse(model)
    member = group.joined.members[0]
    model.train()
    mask = torch.rand(6, 32, generator=torch.Generator().manual_seed(1)) < 0.3
    monkeypatch.setattr(fused_linears, "draw_dropped", lambda shape, p, device: mask)
    x = torch.randn(6, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    down, up = member.adapters
    expected = member.base(x) + member.scaling * (x.masked_fill(mask, 0) / 0.7) @ down.t() @ up.t()
    found = member.layer(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    for one, other in zip(*(torch.autograd.grad((y * weight).sum(), [x, down, up]) for y in (found, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_wrong_products_are_found_out(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from celery_workers.training import fused_linears

    model = tiny(tiny_model_folder)
    expected = gradients(model)
    monkeypatch.setattr(fused_linears, "_input_gradient", lambda products, joined, dropped: products @ joined.weight * 1.1)
    assert fuse(model) == []
    assert_same(gradients(model), expected, tolerance=0)
