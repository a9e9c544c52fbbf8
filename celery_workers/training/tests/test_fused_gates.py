from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from celery_workers.training.fused_gates import fuse_gates


def layer(activation: str = "silu") -> nn.Module:
    torch.manual_seed(0)
    return LlamaMLP(LlamaConfig(hidden_size=32, intermediate_size=48, hidden_act=activation))


def test_outputs_and_gradients_are_the_same() -> None:
    gated = layer()
    x = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1), requires_grad=True)
    weight = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(2))
    asked = [x, *gated.parameters()]
    expected = gated(x)
    expected_gradients = torch.autograd.grad(expected, asked, weight)
    assert fuse_gates(gated) == 1
    found = gated(x)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    for one, other in zip(torch.autograd.grad(found, asked, weight), expected_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_layer_with_another_activation_is_left_alone(activation: str) -> None:
    gated = layer(activation)
    assert fuse_gates(gated) == 0
    assert "forward" not in vars(gated)
