from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from celery_workers.training.fused_norms import fuse_norms


def frozen(norm: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    norm.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    return norm.to(dtype).requires_grad_(requires_grad=False)


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Qwen3RMSNorm])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-7)])
def test_outputs_and_gradients_are_the_same(kind: type[nn.Module], dtype: torch.dtype, tolerance: float) -> None:
    norm = frozen(kind(64, eps=1e-5), dtype)
    x = torch.randn(2, 7, 64, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    weight = torch.randn(2, 7, 64, generator=torch.Generator().manual_seed(2)).to(dtype)
    expected = norm(x)
    (expected_gradient,) = torch.autograd.grad(expected, x, weight)
    assert fuse_norms(norm) == 1
    found = norm(x)
    (found_gradient,) = torch.autograd.grad(found, x, weight)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found_gradient, expected_gradient, rtol=4 * tolerance, atol=4 * tolerance)


def test_norm_of_another_kind_is_left_alone() -> None:
    norm = frozen(Gemma2RMSNorm(64))  # multiplies by 1 + weight
    assert fuse_norms(norm) == 0
    assert "forward" not in vars(norm)


def test_norm_that_is_trained_is_left_alone() -> None:
    assert fuse_norms(LlamaRMSNorm(64)) == 0
