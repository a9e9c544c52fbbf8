from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from celery_workers.training import target_logprobs as module
from celery_workers.training.target_logprobs import target_logprobs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_cross_entropy(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 100)  # three rows at once, and one left over
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(10, 30, generator=generator)).to(dtype).requires_grad_()
    targets = torch.randint(30, (10,), generator=generator)
    weights = torch.randn(10, generator=generator)
    expected = -F.cross_entropy(logits.float(), targets, reduction="none")
    found = target_logprobs(logits, targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    (found_gradient,), (expected_gradient,) = (
        torch.autograd.grad((values * weights).sum(), logits) for values in (found, expected)
    )
    torch.testing.assert_close(found_gradient, expected_gradient, rtol=1e-5 if dtype == torch.float32 else 2**-7, atol=1e-7)


def test_gradient_of_a_sure_token_is_not_lost_in_bfloat16() -> None:
    logits = torch.tensor([[9.0, 0.0]]).bfloat16().requires_grad_()
    target_logprobs(logits, torch.tensor([0])).sum().backward()
    sure = torch.sigmoid(torch.tensor(-9.0))  # 1 - p, which p rounded to bfloat16 would make 0
    torch.testing.assert_close(logits.grad[0, 0].float(), sure, rtol=2**-7, atol=0)


def test_no_supervised_token_gives_no_value() -> None:
    logits = torch.zeros(0, 7).requires_grad_()
    target_logprobs(logits, torch.zeros(0, dtype=torch.int64)).sum().backward()
    assert logits.grad.shape == (0, 7)
