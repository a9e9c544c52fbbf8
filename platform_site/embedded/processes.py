"""Run several programs side by side: start, watch, restart, and stop them in order. Imports no Django.

::

    with Processes(programs, log_folder=var_dir / "logs", report=print) as processes:
        while not stop.wait(0.2):
            processes.check()

Each program has its own session, so that Ctrl-C at the terminal reaches only the launcher, which then stops them in order;
and each is tethered to the launcher, so that none survives it. Start and check from the main thread (see ``tether``).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from platform_site.embedded.tether import tethered

LOG_LIMIT_BYTES = 10 * 1024 * 1024
LOGS_KEPT = 3
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0  # a program that ran this long may restart at once again


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program to keep running."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)  # added to the launcher's own
    stop_timeout_seconds: float = 30.0


@dataclass(kw_only=True)
class _Running:
    program: Program
    process: subprocess.Popen[bytes]
    started_at: float
    pause_seconds: float = 0.0
    restart_at: float | None = None


class Processes:
    """The programs of one launcher, stopped in the reverse order of their start."""

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        log_folder: Path,
        report: Callable[[str, str], None],
        keep_open: Sequence[int] = (),
    ) -> None:
        """``report`` gets a program's name and a message; ``keep_open`` are file descriptors that the programs inherit."""
        self._programs = list(programs)
        self._log_folder = log_folder
        self._report = report
        self._keep_open = tuple(keep_open)
        self._running: dict[str, _Running] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start every program; if one cannot be started, stop the others."""
        self._log_folder.mkdir(parents=True, exist_ok=True)
        try:
            for program in self._programs:
                self._running[program.name] = self._launch(program)
        except BaseException:
            self.stop()
            raise

    def add(self, program: Program) -> None:
        """Start one more program."""
        self._programs.append(program)
        self._running[program.name] = self._launch(program)

    def log_file(self, name: str) -> Path:
        """Return where the output of the program ``name`` goes."""
        return self._log_folder / f"{name}.log"

    def pid(self, name: str) -> int:
        """Return the present process id of the program ``name``."""
        return self._running[name].process.pid

    def check(self) -> None:
        """Start again what ended by itself (with a pause that doubles each time), and rotate long logs. Never blocks."""
        now = time.monotonic()
        for running in self._running.values():
            code = running.process.poll()
            if code is None:
                self._rotate(self.log_file(running.program.name))
            elif running.restart_at is None:
                self._plan_restart(running, code, now)
            elif now >= running.restart_at:
                again = self._launch(running.program)
                running.process, running.started_at, running.restart_at = again.process, now, None

    def stop(self) -> None:
        """Ask every program to end, last one first, and wait for each; kill what outstays its time."""
        names = list(reversed(self._running))
        for name in names:
            running = self._running[name]
            if running.process.poll() is None:
                self._report(name, "stopping")
                running.process.send_signal(signal.SIGTERM)
        for name in names:
            running = self._running.pop(name)
            try:
                running.process.wait(running.program.stop_timeout_seconds)
            except subprocess.TimeoutExpired:
                self._report(name, f"did not stop within {running.program.stop_timeout_seconds:.0f} s and is killed")
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(running.process.pid, signal.SIGKILL)  # and whatever it left in its group
            running.process.wait()

    def kill(self) -> None:
        """End every program at once; a ``stop`` that waits for them goes on."""
        for running in list(self._running.values()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(running.process.pid, signal.SIGKILL)

    def _launch(self, program: Program) -> _Running:
        path = self.log_file(program.name)
        self._rotate(path)
        with path.open("ab") as log:
            process = subprocess.Popen(
                tethered(program.command, death_signal=signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **program.environment},
                start_new_session=True,
                pass_fds=self._keep_open,
            )
        return _Running(program=program, process=process, started_at=time.monotonic())

    def _plan_restart(self, running: _Running, code: int, now: float) -> None:
        if now - running.started_at > STEADY_SECONDS:
            running.pause_seconds = 0.0
        else:
            running.pause_seconds = min(LONGEST_PAUSE_SECONDS, 2 * running.pause_seconds or 1.0)
        running.restart_at = now + running.pause_seconds
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        log = self.log_file(running.program.name)
        self._report(running.program.name, f"{how}; starts again in {running.pause_seconds:.0f} s (see {log})")

    def _rotate(self, path: Path) -> None:
        """Copy a long log aside and empty it: its writer appends, so it goes on at the start."""
        if not path.exists() or path.stat().st_size < LOG_LIMIT_BYTES:
            return
        for number in range(LOGS_KEPT - 1, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number + 1}"))
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        os.truncate(path, 0)
