"""The programs that make up the platform on one machine: web, workers, beat."""

from __future__ import annotations

import sys

from platform_site.embedded.processes import Program
from platform_site.env import Environment

CELERY = [sys.executable, "-m", "celery", "-A", "platform_site.celery"]
WEB_STOP_SECONDS = 5
BEAT_STOP_SECONDS = 10


def programs(environment: Environment) -> list[Program]:
    """Return what must run before the platform is ready, in the order of its start.

    Workers get their cancel grace and some seconds to save and stop; the web server cuts streams after
    ``WEB_STOP_SECONDS``, and their readers go on elsewhere from the last number.
    """
    worker_stop_seconds = environment.cancel_grace_seconds + 15
    return [
        Program(name="worker-gpu", command=_worker("gpu"), stop_timeout_seconds=worker_stop_seconds),
        Program(name="worker-cpu", command=_worker("cpu"), stop_timeout_seconds=worker_stop_seconds),
        Program(name="web", command=_web(environment), stop_timeout_seconds=WEB_STOP_SECONDS + 5),
    ]


def beat() -> Program:
    """Return the clock of the reconciler. Nobody waits for it at the start, so it comes last."""
    return Program(name="beat", command=[*CELERY, "beat", "--loglevel", "WARNING"], stop_timeout_seconds=BEAT_STOP_SECONDS)


def _web(environment: Environment) -> list[str]:
    return [
        sys.executable, "-m", "uvicorn", "platform_site.asgi:application", "--lifespan", "off",
        "--host", environment.api_host, "--port", str(environment.api_port),
        "--timeout-graceful-shutdown", str(WEB_STOP_SECONDS), "--no-server-header",
    ]  # fmt: skip


def _worker(queue: str) -> list[str]:
    # The worker sizes its pool by its slots. Workers have nothing to tell each other: mingle would cost a second at the start.
    return [
        *CELERY, "worker", "-Q", queue, "-n", f"{queue}@%h",
        "--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat",
    ]  # fmt: skip
