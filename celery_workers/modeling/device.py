"""Where a process computes, and what it has used there."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def pick_device() -> torch.device:
    """Return the CUDA device that the process is pinned to, or the CPU."""
    import torch

    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory this process has held at once: on the device, or for the CPU in the machine's memory."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kibibytes on Linux


def memory_limit_bytes(device: torch.device) -> int:
    """Return the memory that a process may use at most: the device's, or for the CPU the machine's or the container's."""
    import psutil
    import torch

    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    limits: list[int] = [psutil.virtual_memory().total]
    for path in CGROUP_LIMITS:
        text = path.read_text(encoding="ascii").strip() if path.is_file() else "max"
        if text.isdecimal():  # "max" is no limit
            limits.append(int(text))
    return min(limits)
