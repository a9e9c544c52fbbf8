"""Dropout masks for the CPU, an eighth as dear as torch's, and as reproducible.

torch draws a mask element by element from a serial generator: a quarter of a step with LoRA on all layers. Here torch's
generator draws only a seed, so that restoring its state restores every mask, also when checkpointing computes a layer twice;
the bits come from numpy's SFC64, four elements a draw.
"""

from __future__ import annotations

import numpy as np
import torch

_LEVELS = 1 << 16


def draw_dropped(shape: tuple[int, int], p: float, device: torch.device) -> torch.Tensor:
    """Return a bool mask, True with probability ``p`` rounded to 1/65536: the elements to drop.

    Draws one number from torch's global generator of the CPU, on CUDA all of them from the device's.
    """
    if device.type != "cpu":
        return torch.rand(shape, device=device) < p
    seed = int(torch.randint(2**62, ()).item())
    count = shape[0] * shape[1]
    bits = np.random.Generator(np.random.SFC64(seed)).integers(0, 2**64, size=-(-count // 4), dtype=np.uint64)
    levels = bits.view(np.int16)[:count].reshape(shape)
    return torch.from_numpy(levels < round(p * _LEVELS) - _LEVELS // 2)
