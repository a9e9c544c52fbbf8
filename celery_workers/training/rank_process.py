"""A further process of a training: ``python -m celery_workers.training.rank_process FOLDER``, with RANK and WORLD_SIZE set.

It does what the agent's own process does, in step with it, but speaks to nobody and writes no outputs. Its prints are log lines
of the node, as it shares the agent's pipes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from celery_workers.contract.context import LogLevel
from celery_workers.contract.errors import BugError
from celery_workers.contract.ports import Examples
from celery_workers.training.config import TrainingConfig
from celery_workers.training.processes import JOB, Processes, join, leave, tell_failure
from celery_workers.training.sources import Sources


@dataclass(kw_only=True)
class SilentContext:
    """The surroundings of a process that only computes: what it would say, process 0 says."""

    workdir: Path
    seed: int
    memory_failures: int
    resume_from: Path | None
    run_id: str = ""
    node: str = ""
    attempt: int = 1
    is_stopping: bool = False

    def reference(self, value: str) -> Path:
        """Refuse: the agent has resolved everything."""
        raise BugError(f"a further process of a training was asked for {value}")

    def log(self, message: str, *, level: LogLevel = "INFO", **data: object) -> None:
        """Say nothing."""

    def metric(self, message: str, *, step: int, epoch: float | None = None, loss: float | None = None, **data: float) -> None:
        """Say nothing."""

    def progress(self, fraction: float, *, step: int | None = None, total_steps: int | None = None) -> None:
        """Say nothing."""

    def checkpoint(self, path: Path, *, step: int, keep: int = 2) -> None:
        """Refuse: process 0 saves."""
        raise BugError(f"a further process of a training saved {path} at step {step}, to keep {keep}")

    def check_canceled(self) -> None:
        """Go on: process 0 decides when all stop."""


def main(arguments: list[str] | None = None) -> int:
    """Train along; return the exit status."""
    (place,) = sys.argv[1:] if arguments is None else arguments
    folder, rank = Path(place), int(os.environ["RANK"])
    try:
        _train(folder, Processes(rank=rank, count=int(os.environ["WORLD_SIZE"])))
    except BaseException as error:
        tell_failure(folder, rank, error)  # before the others notice that it is gone
        raise
    finally:
        leave()
    return 0


def _train(folder: Path, processes: Processes) -> None:
    import torch

    from celery_workers.training.loop import train

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    sources = Sources(
        base_folder=Path(job["base_folder"]),
        examples=_examples(job["examples"]),
        eval_examples=_examples(job["eval_examples"]) if job["eval_examples"] else None,
        adapter_folder=Path(job["adapter_folder"]) if job["adapter_folder"] else None,
    )
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        context = SilentContext(
            workdir=Path(workdir),
            seed=job["seed"],
            memory_failures=job["memory_failures"],
            resume_from=Path(job["resume_from"]) if job["resume_from"] else None,
        )
        join(folder, rank=processes.rank, count=processes.count)
        train(context, TrainingConfig(**job["config"]), sources, processes=processes)


def _examples(told: dict[str, object]) -> Examples:
    return Examples(path=Path(str(told["path"])), metadata=dict(told["metadata"]), sha256=str(told["sha256"]))  # type: ignore[call-overload]


if __name__ == "__main__":
    sys.exit(main())
