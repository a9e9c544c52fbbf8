"""Try a faster way of computing against the plain one before it is used."""

from __future__ import annotations

from collections.abc import Sequence

import torch

# bfloat16 rounds at 2^-8 per operation, float32 at 2^-24; what is computed wrongly differs by far more
TOLERANCES = {torch.bfloat16: 0.03, torch.float16: 0.005, torch.float32: 1e-3}


def agree(ones: Sequence[torch.Tensor], others: Sequence[torch.Tensor], *, computed_in: torch.dtype) -> bool:
    """Whether each tensor is its counterpart but for rounding: the difference is short beside the counterpart."""
    tolerance = TOLERANCES[computed_in]
    return len(ones) == len(others) and all(
        one.shape == other.shape and bool((one - other).float().norm() <= tolerance * other.float().norm())
        for one, other in zip(ones, others, strict=True)
    )


class Draws:
    """Random numbers that take nothing from torch's global generators."""

    def __init__(self, device: torch.device) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self._device = device

    def normal(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        """Return standard normal numbers."""
        return torch.randn(shape, generator=self._generator).to(self._device, dtype)

    def tokens(self, count: int, *, vocabulary_size: int) -> torch.Tensor:
        """Return (count,) int64 token ids."""
        return torch.randint(vocabulary_size, (count,), generator=self._generator).to(self._device)
