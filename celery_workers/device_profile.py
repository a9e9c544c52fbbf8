"""What this machine's devices can do, measured once and kept: estimates are made from it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from pydantic import ValidationError

from celery_workers.contract.agent import Queue
from celery_workers.contract.estimates import Machine
from pipelines.engine.children import ROOT, child_environment

logger = logging.getLogger(__name__)

MEASURE_SECONDS = 120.0
IDLE_SECONDS = 10
"""How long a worker must have had nothing to do before it measures: work would make the machine look slow, and be slowed."""


class Profiled(Protocol):
    """Whose places are measured."""

    queue: str
    places: list[str]
    threads: int
    profile: dict[str, object]

    @property
    def is_idle(self) -> bool:
        """Whether no node of it runs."""

    def report(self) -> None:
        """Make the profile known."""


class Profiler(threading.Thread):
    """Measures the first place of the gpu queue's worker, whose nodes' times are estimated, once nothing runs there.

    A profile is kept below ``VAR_DIR`` for this version of torch, so that only a machine's first start takes the seconds.
    """

    def __init__(self, states: Sequence[Profiled]) -> None:
        super().__init__(name="device-profiler", daemon=True)
        self._states = states
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()

    def run(self) -> None:
        """Measure and report; a worker without a profile works as well, but its estimates have no times."""
        for state in (state for state in self._states if state.queue == Queue.GPU):
            machine = self._profile_of(state)
            if machine is None or self._ended.is_set():
                continue
            state.profile = machine.model_dump()
            try:
                state.report()
            except DatabaseError as error:  # the next heartbeat reports it
                logger.warning("The profile of this worker cannot be written yet: %s", error)
        connection.close()

    def end(self) -> None:
        """Stop a measurement under way, and report nothing any more."""
        self._ended.set()
        if self._process is not None:
            self._process.kill()
        self.join(timeout=5)

    def _profile_of(self, state: Profiled) -> Machine | None:
        place, threads = state.places[0], state.threads
        name = f"{place}-{threads}-{version('torch')}".replace("/", "_")
        path = Path(settings.VAR_DIR) / "device-profiles" / f"{name}.json"
        try:
            return Machine.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            machine = self._measure(place, threads=threads) if self._is_quiet(state) else None
        if machine is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            draft.write_text(machine.model_dump_json(), encoding="utf-8")
            draft.replace(path)
        return machine

    def _is_quiet(self, state: Profiled) -> bool:
        """Wait until nothing has run for a while; False if the worker ends first."""
        quiet = 0
        while quiet < IDLE_SECONDS:
            if self._ended.wait(1):
                return False
            quiet = quiet + 1 if state.is_idle else 0
        return True

    def _measure(self, place: str, *, threads: int) -> Machine | None:
        environment = child_environment(os.environ, device=place) | {"OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "celery_workers.measure_device", "--threads", str(threads)]
        try:
            with subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as process:
                self._process = process
                if self._ended.is_set():
                    process.kill()
                try:
                    output, _ = process.communicate(timeout=MEASURE_SECONDS)
                finally:
                    process.kill()
            return Machine.model_validate_json(output)
        except (OSError, subprocess.SubprocessError, ValidationError) as error:
            if not self._ended.is_set():
                logger.warning("The speed of %s could not be measured, so estimates will have no times: %s", place, error)
            return None
        finally:
            self._process = None
