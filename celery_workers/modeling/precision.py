"""Choose the number type of a training by measuring, because neither the processor's name nor its flags tell the speed."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["bfloat16", "float32"]

_ROWS, _WIDTH, _OUT = 512, 1024, 1024
_REPEATS = 5
PRODUCT_OPERATIONS = 2 * _ROWS * _WIDTH * _OUT
"""Multiplications and additions of the product that ``matmul_seconds`` times."""


def torch_dtype(precision: Precision) -> torch.dtype:
    """Return torch's type of that name."""
    import torch

    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[precision]


@cache
def fastest_precision(device: str) -> Precision:
    """Return the type in which ``device`` multiplies matrices faster; measured once per process, in well under a second.

    The answer may differ between machines and even between moments: record it with the checkpoint, so that a resumed run
    computes in the type it began with.
    """
    import torch

    if device.startswith("cuda") and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "float32"
    return "bfloat16" if matmul_seconds("bfloat16", device) < matmul_seconds("float32", device) else "float32"


def matmul_seconds(precision: Precision, device: str) -> float:
    """Return the seconds of one product (512, 1024) x (1024, 1024) in that type: the best of five."""
    import torch

    dtype = torch_dtype(precision)
    left = torch.ones(_ROWS, _WIDTH, dtype=dtype, device=device)
    right = torch.ones(_OUT, _WIDTH, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(_REPEATS + 1):  # the first pass warms up
        started = time.perf_counter()
        torch.nn.functional.linear(left, right)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return best
