"""The programs that make up the platform on one machine: web, workers, beat."""

from __future__ import annotations

import sys
from pathlib import Path

from platform_site.embedded.processes import Program
from platform_site.env import Environment

CELERY = [sys.executable, "-m", "celery", "-A", "platform_site.celery"]
WEB_STOP_SECONDS = 5
BEAT_STOP_SECONDS = 10


def programs(environment: Environment, *, gpu_slots: int) -> list[Program]:
    """Return the programs in the order of their start.

    Workers get their cancel grace and some seconds to save and stop; the web server cuts streams after
    ``WEB_STOP_SECONDS``, and their readers go on elsewhere from the last number.
    """
    worker_stop_seconds = environment.cancel_grace_seconds + 15
    return [
        Program(name="worker-gpu", command=_worker("gpu", gpu_slots), stop_timeout_seconds=worker_stop_seconds),
        Program(name="worker-cpu", command=_worker("cpu", environment.cpu_slots), stop_timeout_seconds=worker_stop_seconds),
        Program(name="web", command=_web(environment), stop_timeout_seconds=WEB_STOP_SECONDS + 5),
        Program(name="beat", command=_beat(environment.var_dir), stop_timeout_seconds=BEAT_STOP_SECONDS),
    ]


def _web(environment: Environment) -> list[str]:
    return [
        sys.executable, "-m", "uvicorn", "platform_site.asgi:application", "--lifespan", "off",
        "--host", environment.api_host, "--port", str(environment.api_port),
        "--timeout-graceful-shutdown", str(WEB_STOP_SECONDS), "--no-server-header",
    ]  # fmt: skip


def _worker(queue: str, slots: int) -> list[str]:
    # Workers have nothing to tell each other: gossip and mingle would cost a second at the start.
    return [
        *CELERY, "worker", "-Q", queue, "--pool", "threads", "-c", str(slots), "-n", f"{queue}@%h",
        "--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat",
    ]  # fmt: skip


def _beat(var_dir: Path) -> list[str]:
    folder = var_dir / "beat"
    folder.mkdir(parents=True, exist_ok=True)
    return [*CELERY, "beat", "--loglevel", "WARNING", "--schedule", str(folder / "schedule"), "--pidfile="]
