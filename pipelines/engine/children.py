"""Agent processes: how one is started, and a pool that keeps one warm.

A child leads its own process group and gets an environment made from an allow-list, so that no credential of the platform
can reach an agent. ``os.killpg`` with its pid ends it and everything it started.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Literal

logger = logging.getLogger(__name__)

Warm = Literal["light", "torch"]

ROOT = Path(__file__).resolve().parents[2]
AGENTS = "celery_workers.agents:registry"

ALLOWED_NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "XDG_CACHE_HOME", "SSL_CERT_FILE"),
        *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
        *("DEFAULT_LORA_R", "DEFAULT_LORA_ALPHA", "DEFAULT_LORA_DROPOUT", "DEFAULT_TARGET_MODULES", "DEFAULT_BATCH_SIZE"),
    }
)
ALLOWED_PREFIXES = (
    "LC_",
    "OMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "GOMP_",
    "CUDA_",
    "NVIDIA_",
    "NCCL_",
    "PYTORCH_",
    "TORCHINDUCTOR_",
)
FIXED = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONHASHSEED": "0",  # sets of text are walked in the same order in every attempt
    "PYTHONUNBUFFERED": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # each redraw would be a line of the stream
    "TQDM_DISABLE": "1",  # the same: some libraries draw theirs without asking the hub's variable
}


def child_environment(environment: Mapping[str, str], *, device: str) -> dict[str, str]:
    """Return the variables an agent process may see, pinned to ``device`` (``cpu``, or a CUDA index or UUID)."""
    allowed = {name: value for name, value in environment.items() if name in ALLOWED_NAMES or name.startswith(ALLOWED_PREFIXES)}
    return {**allowed, **FIXED, "CUDA_VISIBLE_DEVICES": "" if device == "cpu" else device}


class Child:
    """One agent process with this side's ends of its socket and pipes."""

    def __init__(self, process: subprocess.Popen[bytes], *, connection: socket.socket, alive_fd: int) -> None:
        self.process = process
        self.connection = connection
        self._alive_fd: int | None = alive_fd

    @property
    def pid(self) -> int:
        """The process's id, which is also its group's."""
        return self.process.pid

    @property
    def stdout_fd(self) -> int:
        """This side's end of the pipe from its stdout."""
        assert self.process.stdout is not None  # noqa: S101 (Popen was given PIPE)
        return self.process.stdout.fileno()

    @property
    def stderr_fd(self) -> int:
        """This side's end of the pipe from its stderr."""
        assert self.process.stderr is not None  # noqa: S101 (Popen was given PIPE)
        return self.process.stderr.fileno()

    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and all it started, as far as there are any left."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS: EPERM where only zombies are left
            return

    def group_is_gone(self) -> bool:
        """Whether neither the process nor anything in its group runs. Zombies do not count: they hold no memory or device."""
        self.process.poll()
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # macOS says so of a group of zombies
            return sys.platform != "linux"
        return sys.platform == "linux" and not _running_members(self.pid)

    def kill_and_wait(self) -> None:
        """Kill the whole group; returns when it is gone, however long the kernel takes."""
        started, warned = time.monotonic(), 0.0
        while True:
            self.signal_group(signal.SIGKILL)
            if self.group_is_gone():
                self.process.wait()
                return
            waited = time.monotonic() - started
            if waited - warned > 30:
                warned = waited
                logger.warning("Process group %d does not end after SIGKILL, %.0f s ago", self.pid, waited)
            time.sleep(0.005 if waited < 1 else 0.2)

    def close(self) -> None:
        """Kill what is left and close every descriptor. May be called again."""
        self.kill_and_wait()
        self.connection.close()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        if self._alive_fd is not None:
            os.close(self._alive_fd)
            self._alive_fd = None


def _running_members(group: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it ended while we looked
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(folder.name))
    return found


def start_child(*, warm: Warm, device: str = "cpu", registry: str = AGENTS) -> Child:
    """Start an agent process; it warms up by itself and then waits for its request.

    Raises: OSError: the system refuses another process or descriptor.
    """
    ours, theirs = socket.socketpair()
    watched_fd, alive_fd = os.pipe()
    command = [sys.executable, "-m", "celery_workers.agent_process", "--socket-fd", str(theirs.fileno())]
    command += ["--alive-fd", str(watched_fd), "--warm", warm, "--registry", registry]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=(theirs.fileno(), watched_fd),
            start_new_session=True,
            cwd=ROOT,
            env=child_environment(os.environ, device=device),
        )
    except OSError:
        ours.close()
        os.close(alive_fd)
        raise
    finally:
        theirs.close()
        os.close(watched_fd)
    return Child(process, connection=ours, alive_fd=alive_fd)


class ChildPool:
    """Keeps one child warm, so that a node need not wait for its imports. Its children use one device."""

    def __init__(self, *, warm: Warm, device: str = "cpu", registry: str = AGENTS) -> None:
        self.warm = warm
        self.device = device
        self.registry = registry
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="child-starter")
        self._lock = Lock()
        self._next: Future[Child] | None = None
        self._is_closed = False

    def warm_up(self) -> None:
        """Start the next child in the background, if none is under way."""
        with self._lock:
            if self._next is None and not self._is_closed:
                self._next = self._starter.submit(self._start)

    def take(self) -> Child:
        """Return a live child, warm if there is one, and start the next. The caller must close it.

        Raises: RuntimeError: the pool is closed. OSError: no process can be started.
        """
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the pool of agent processes is closed")
            waiting, self._next = self._next, None
        child = waiting.result() if waiting is not None else self._start()
        if not child.is_alive():
            logger.warning("A warm agent process ended while it waited (status %s); starting another", child.process.returncode)
            child.close()
            child = self._start()
        self.warm_up()
        return child

    def close(self) -> None:
        """End the warm child. Children that were taken are their takers' concern."""
        with self._lock:
            self._is_closed = True
            waiting, self._next = self._next, None
        self._starter.shutdown(wait=True)
        if waiting is not None and waiting.exception() is None:
            waiting.result().close()

    def _start(self) -> Child:
        return start_child(warm=self.warm, device=self.device, registry=self.registry)
