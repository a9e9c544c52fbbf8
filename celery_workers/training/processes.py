"""Several processes that train one model together, each on a device or a share of the threads of its own.

A step is the same whatever the number of processes: its micro-batches are dealt out, each process adds up the gradients of its
part, and the sums are added up (data parallelism, as in Li et al. 2020, arXiv:2006.15704, without its buckets: what is trained
is small, or the step long). Losses are averaged over the whole step, so that one process and eight train alike.

Process 0 is the agent's own: it alone speaks to the platform, and what it decides (stop, save) all do.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, cast

import torch
import torch.distributed as dist

from celery_workers.contract.context import AgentContext
from celery_workers.contract.errors import AgentError, BugError, InfrastructureError
from celery_workers.contract.memory import is_out_of_memory
from celery_workers.contract.ports import Examples
from celery_workers.training.config import TrainingConfig
from celery_workers.training.sources import Sources

T = TypeVar("T")

JOB, RENDEZVOUS = "job.json", "rendezvous"
PATIENCE = timedelta(minutes=10)
"""How long a process waits for the slowest other one: they load the model, and compute a micro-batch, at their own pace."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among ``count`` of them. With one, everything here does nothing."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that speaks to the platform and writes files."""
        return self.rank == 0

    def part(self, items: Sequence[T]) -> list[T]:
        """Return the items that this process works on: every ``count``-th, beginning at its rank."""
        return list(items[self.rank :: self.count])

    def halvings(self, micro_batches: int) -> int:
        """Return how often each of so many micro-batches must be cut in two for every process to have one."""
        return max(0, math.ceil(math.log2(self.count / micro_batches)))

    def add_up_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace the gradient of each parameter by its sum over all processes; one that has none counts as zero."""
        if self.count == 1:
            return
        trained = list(parameters)
        flat = torch.cat([_gradient(parameter).reshape(-1) for parameter in trained])
        dist.all_reduce(flat)
        for parameter, total in zip(trained, flat.split([parameter.numel() for parameter in trained]), strict=True):
            parameter.grad = total.view_as(parameter)

    def sums(self, values: dict[str, float]) -> dict[str, float]:
        """Return each value added up over all processes, of which some may lack a name."""
        if self.count == 1:
            return values
        gathered: list[dict[str, float]] = [{} for _ in range(self.count)]
        dist.all_gather_object(gathered, values)
        names = dict.fromkeys(name for one in gathered for name in one)
        return {name: sum(one.get(name, 0.0) for one in gathered) for name in names}

    def together(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns; where it runs out of memory in one process, it has in all, so that all do it again.

        Raises: MemoryError: it did, here or elsewhere.
        """
        if self.count == 1:
            return work()
        result, reason = None, ""
        try:
            result = work()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error) or type(error).__name__
        if self.is_any(bool(reason)):
            raise MemoryError(reason or "another process of the training ran out of memory")
        return cast("T", result)

    def is_any(self, flag: bool) -> bool:
        """Whether any process says so."""
        if self.count == 1:
            return flag
        answer = torch.tensor(int(flag))
        dist.all_reduce(answer, op=dist.ReduceOp.MAX)
        return bool(answer.item())

    def first_says(self, flag: bool) -> bool:
        """Return what process 0 says; what the others say does not matter."""
        if self.count == 1:
            return flag
        answer = torch.tensor(int(flag))
        dist.broadcast(answer, src=0)
        return bool(answer.item())

    def seed_for(self, seed: int, step: int) -> None:
        """Seed the generators of every process but the first for a step, so that no checkpoint need hold their states."""
        if not self.is_first:
            torch.manual_seed(hash((seed, step, self.rank)) % 2**63)


ALONE = Processes()


@contextmanager
def started(ctx: AgentContext, config: TrainingConfig, sources: Sources) -> Iterator[Processes]:
    """Start the other processes of a training, and end them with it; yield this one's place among them.

    Raises: AgentError: as the process that failed has said. InfrastructureError: one was lost without a word.
    """
    if config.processes == 1:
        yield ALONE
        return
    folder = ctx.workdir / "processes"
    folder.mkdir()
    (folder / JOB).write_text(json.dumps(_job(ctx, config, sources)), encoding="utf-8")
    threads = torch.get_num_threads()
    share = max(1, threads // config.processes)
    others = [_start(folder, rank, config.processes, threads=share) for rank in range(1, config.processes)]
    torch.set_num_threads(share)
    try:
        join(folder, rank=0, count=config.processes)
        yield Processes(rank=0, count=config.processes)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise _told_failure(folder) or _lost(others) or error from error
    finally:
        leave()
        torch.set_num_threads(threads)
        for process in others:
            process.kill()
            process.wait()


def join(folder: Path, *, rank: int, count: int) -> None:
    """Meet the other processes of the training in ``folder``; returns when all are there.

    Raises: InfrastructureError: they do not come.
    """
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(
            backend, init_method=f"file://{folder / RENDEZVOUS}", rank=rank, world_size=count, timeout=PATIENCE
        )
    except (RuntimeError, ValueError) as error:
        raise InfrastructureError(f"the processes of the training did not meet: {error}", code="processes_apart") from error


def leave() -> None:
    """Part from the others, whatever state they are in."""
    if dist.is_initialized():
        dist.destroy_process_group()


def tell_failure(folder: Path, rank: int, error: BaseException) -> None:
    """Leave word of why this process ends, for process 0 to raise."""
    kind = error.kind.value if isinstance(error, AgentError) else "bug"
    code = error.code if isinstance(error, AgentError) else type(error).__name__
    said = {"kind": kind, "code": code, "message": str(error)}
    draft = folder / f".failure-{rank}"
    draft.write_text(json.dumps(said), encoding="utf-8")
    draft.replace(folder / f"failure-{rank}.json")


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _job(ctx: AgentContext, config: TrainingConfig, sources: Sources) -> dict[str, object]:
    def told(examples: Examples | None) -> dict[str, object] | None:
        if examples is None:
            return None
        return {"path": str(examples.path), "metadata": examples.metadata, "sha256": examples.sha256}

    return {
        "config": config.model_dump(mode="json"),
        "seed": ctx.seed,
        "memory_failures": ctx.memory_failures,
        "resume_from": str(ctx.resume_from) if ctx.resume_from else None,
        "base_folder": str(sources.base_folder),
        "adapter_folder": str(sources.adapter_folder) if sources.adapter_folder else None,
        "examples": told(sources.examples),
        "eval_examples": told(sources.eval_examples),
    }


def _start(folder: Path, rank: int, count: int, *, threads: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "celery_workers.training.rank_process", str(folder)]
    devices = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
    environment = os.environ | {
        "RANK": str(rank),
        "WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": str(threads),
        "CUDA_VISIBLE_DEVICES": devices[rank] if rank < len(devices) else "",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)  # in this group, so that it ends with it


def _lost(others: Sequence[subprocess.Popen[bytes]]) -> InfrastructureError | None:
    """Return what to raise if a process has ended without a word; None if all still run."""
    statuses = {rank: process.poll() for rank, process in enumerate(others, start=1)}
    ended = {rank: status for rank, status in statuses.items() if status is not None}
    if not ended:
        return None
    shown = ", ".join(f"process {rank} with status {status}" for rank, status in ended.items())
    return InfrastructureError(
        f"a process of the training was lost: {shown}", code="process_lost", evidence={"statuses": shown}
    )


def _told_failure(folder: Path) -> AgentError | None:
    """Return what a process has left word of; it may have been lost just before the others noticed."""
    for path in sorted(folder.glob("failure-*.json")):
        said = json.loads(path.read_text(encoding="utf-8"))
        kinds: dict[str, type[AgentError]] = {kind.kind.value: kind for kind in AgentError.__subclasses__()}
        rank = path.stem.rpartition("-")[2]
        return kinds.get(said["kind"], BugError)(f"process {rank} of the training: {said['message']}", code=said["code"])
    return None
