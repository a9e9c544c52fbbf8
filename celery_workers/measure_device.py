"""Measure what a device can do, in a process of its own: ``python -m celery_workers.measure_device --threads N``.

Prints a ``Machine`` as JSON. Workers, which do not import torch, start it with the device pinned in its environment.
"""

from __future__ import annotations

import argparse
import sys

from celery_workers.contract.estimates import Machine


def main(arguments: list[str] | None = None) -> int:
    """Print the machine and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m celery_workers.measure_device")
    parser.add_argument("--threads", type=int, required=True, help="threads that one node may use")
    threads = parser.parse_args(arguments).threads
    sys.stdout.write(measure_device(threads=threads).model_dump_json())
    return 0


def measure_device(*, threads: int) -> Machine:
    """Return the name, memory and speed of the CUDA device this process is pinned to, or of the CPU with ``threads``."""
    import torch

    from celery_workers.modeling.device import memory_limit_bytes, pick_device
    from celery_workers.modeling.precision import PRODUCT_OPERATIONS, Precision, matmul_seconds

    torch.set_num_threads(threads)
    device = pick_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    kinds: tuple[Precision, ...] = ("float32", "bfloat16")
    flops = {kind: PRODUCT_OPERATIONS / min(matmul_seconds(kind, str(device)) for _ in range(3)) for kind in kinds}
    return Machine(device=name, memory_bytes=memory_limit_bytes(device), flops=flops, threads=threads)


if __name__ == "__main__":
    sys.exit(main())
