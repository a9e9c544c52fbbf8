from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from celery_workers.modeling.loading import load_base
from celery_workers.training import attention
from celery_workers.training.attention import ATTENTION, build_segments, join_rows

LENGTHS = [5, 17, 1, 40, 9, 16]
SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def random_rows(lengths: list[int], *, vocabulary_size: int = 60) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, vocabulary_size, (length,), generator=generator) for length in lengths]


def joined_logits(model: PreTrainedModel, rows: list[torch.Tensor]) -> torch.Tensor:
    places = torch.cat([torch.arange(len(row)) for row in rows])
    segments = build_segments([len(row) for row in rows], torch.device("cpu"))
    return model(torch.cat(rows)[None], position_ids=places[None], use_cache=False, segments=segments).logits[0]


def alone_logits(model: PreTrainedModel, rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([model(row[None], use_cache=False).logits[0] for row in rows])


@pytest.mark.parametrize("longest_plain", [512, 0])  # two matrix products, and flash attention
def test_joined_rows_give_the_logits_and_gradients_of_rows_alone(
    longest_plain: int, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "PLAIN_LONGEST", longest_plain)
    rows = random_rows(LENGTHS, vocabulary_size=250)
    weight = torch.randn(sum(LENGTHS), 259, generator=torch.Generator().manual_seed(0))
    results = []
    for is_joined in (False, True):
        model = load_base(tiny_model_folder, dtype=torch.float32)
        if is_joined:
            assert join_rows(model)
            assert model.config._attn_implementation == ATTENTION
        logits = (joined_logits if is_joined else alone_logits)(model, rows)
        (logits * weight).sum().backward()
        results.append((logits.detach(), {name: item.grad for name, item in model.named_parameters()}))
    (alone, alone_gradients), (joined, joined_gradients) = results
    torch.testing.assert_close(joined, alone, rtol=1e-4, atol=1e-4)
    for name, gradient in alone_gradients.items():
        torch.testing.assert_close(joined_gradients[name], gradient, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("llama", {"num_key_value_heads": 2}),
        ("qwen2", {"num_key_value_heads": 2}),
        ("qwen3", {"num_key_value_heads": 2, "head_dim": 8}),
        ("mistral", {"num_key_value_heads": 2, "sliding_window": 6}),
        ("gemma2", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6}),  # caps its scores
        ("gemma3_text", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6}),
        ("phi3", {"num_key_value_heads": 2, "pad_token_id": 0}),
        ("olmo2", {"num_key_value_heads": 2}),
    ],
)
def test_many_architectures_keep_joined_rows_apart(architecture: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **SIZES, **options)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    rows = random_rows(LENGTHS)
    with torch.no_grad():
        alone = alone_logits(model, rows)
        assert join_rows(model)
        torch.testing.assert_close(joined_logits(model, rows), alone, rtol=1e-3, atol=1e-4)


def test_a_recurrent_model_is_found_out_and_left_as_it_was() -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model("mamba", vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=8)
    model = AutoModelForCausalLM.from_config(config).eval()
    before = model.config._attn_implementation
    assert not join_rows(model)
    assert model.config._attn_implementation == before


def test_a_leaking_attention_is_found_out(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_base(tiny_model_folder, dtype=torch.float32)
    monkeypatch.setattr(attention, "build_segments", lambda lengths, device: build_segments([sum(lengths)], device))
    assert not join_rows(model)


def test_rows_of_similar_length_are_grouped() -> None:
    segments = build_segments([10, 100, 9, 95, 3], torch.device("cpu"))
    assert [tuple(group.padded.shape) for group in segments.groups] == [(2, 100), (2, 10), (1, 3)]
    padded = torch.cat([group.padded.flatten() for group in segments.groups])
    assert torch.equal(padded[segments.back], torch.arange(217))


@pytest.mark.gpu
def test_joined_rows_on_cuda(tiny_model_folder: Path) -> None:
    model = load_base(tiny_model_folder, dtype=torch.float32, device="cuda")
    assert join_rows(model)
