"""One embedded server process: started tethered, watched until ready, stopped in order."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import psutil

from platform_site.embedded.account import Account
from platform_site.embedded.state import EmbeddedError
from platform_site.embedded.tether import tethered


@dataclass(kw_only=True)
class Service(ABC):
    """A server on loopback with its own folder, port and password. Start it from the main thread (see ``tether``)."""

    name: ClassVar[str]
    start_timeout_seconds: ClassVar[float] = 60.0
    stop_timeout_seconds: ClassVar[float] = 30.0
    stop_signal: ClassVar[signal.Signals]

    home: Path
    port: int
    password: str
    log_file: Path
    account: Account = field(default_factory=Account)
    is_durable: bool = True
    process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        """Where the server keeps its data."""
        return self.home / self.name

    @abstractmethod
    def prepare(self) -> None:
        """Make the data folder and configuration if need be."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the server's command line."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Say whether the server answers."""

    @abstractmethod
    def leftover_pid(self) -> int | None:
        """Return the pid that an earlier server of this folder wrote down."""

    def start(self) -> None:
        """Start the server; ``wait_ready`` says when it answers."""
        self.end_leftover()
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                tethered(self.command(), death_signal=self.stop_signal, uid=self.account.uid, gid=self.account.gid),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            )

    def wait_ready(self) -> None:
        """Wait until the server answers.

        Raises: EmbeddedError: it ended or stayed silent; the message carries the end of its log.
        """
        deadline = time.monotonic() + self.start_timeout_seconds
        while not self.is_ready():
            code = self.process.poll() if self.process else -1
            if code is not None or time.monotonic() > deadline:
                what = f"ended with exit code {code}" if code is not None else "does not answer"
                self.stop()
                raise EmbeddedError(
                    f"Embedded {self.name} {what} (port {self.port}). {self.log_file} ends with:\n{self._log_end()}"
                )
            time.sleep(0.01)

    def stop(self) -> None:
        """Ask the server to end with its data whole; kill it if it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(self.stop_timeout_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def end_leftover(self) -> None:
        """End a server of this folder that outlived its keeper, and forget a pid that now belongs to another program."""
        pid = self.leftover_pid()
        if pid is None:
            return
        try:
            process = psutil.Process(pid)
            if not any(str(self.folder) in part for part in process.cmdline()):
                raise psutil.NoSuchProcess(pid)
            process.send_signal(self.stop_signal)
            process.wait(self.stop_timeout_seconds)
        except psutil.NoSuchProcess:
            self.forget_leftover()
        except (psutil.TimeoutExpired, psutil.AccessDenied) as error:
            raise EmbeddedError(
                f"A {self.name} server of an earlier start (pid {pid}) still uses {self.folder}: end it by hand."
            ) from error

    @abstractmethod
    def forget_leftover(self) -> None:
        """Remove the file that ``leftover_pid`` reads."""

    def _log_end(self) -> str:
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines() if self.log_file.exists() else []
        return "\n".join(lines[-8:])
