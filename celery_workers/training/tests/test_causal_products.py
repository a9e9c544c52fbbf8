from __future__ import annotations

import math

import pytest
import torch

from celery_workers.training import causal_products
from celery_workers.training.attention import _plain, build_segments
from celery_workers.training.causal_products import CausalProducts

LENGTHS = [5, 17, 1, 40, 9, 16]
HEADS, KEY_HEADS, WIDTH = 6, 2, 8


def states(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(sum(LENGTHS), heads, WIDTH) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def rows_alone(tensors: list[torch.Tensor], window: int | None) -> torch.Tensor:
    """The oracle: each row by itself, through autograd. (T, H, D)."""
    attended = [
        _plain(
            *(row.transpose(0, 1)[None] for row in row_states),
            scale=1 / math.sqrt(WIDTH),
            window=window,
            softcap=None,
            dropout=0,
        )
        for row_states in zip(*(tensor.split(LENGTHS) for tensor in tensors), strict=True)
    ]
    return torch.cat([row[0].transpose(0, 1) for row in attended])


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("block", [4, 128])
def test_outputs_and_gradients_are_those_of_rows_alone(block: int, window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal_products, "BLOCK", block)
    causal_products._blocks.cache_clear()
    tensors = states()
    segments = build_segments(LENGTHS, torch.device("cpu"))
    joined = CausalProducts.apply(*tensors, segments, 1 / math.sqrt(WIDTH), window)
    alone = rows_alone(tensors, window)
    weight = torch.randn(joined.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(joined, alone, rtol=1e-5, atol=1e-6)
    found, expected = (torch.autograd.grad((output * weight).sum(), tensors) for output in (joined, alone))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    causal_products._blocks.cache_clear()


def test_bfloat16_is_as_exact_as_autograd_in_bfloat16() -> None:
    segments = build_segments(LENGTHS, torch.device("cpu"))
    exact = rows_alone(states(), None)
    rounded = states(torch.bfloat16)
    errors = [
        (output.float() - exact).norm()
        for output in (CausalProducts.apply(*rounded, segments, 1 / math.sqrt(WIDTH), None), rows_alone(rounded, None))
    ]
    assert errors[0] <= 1.5 * errors[1]
