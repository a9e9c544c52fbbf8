"""What this machine's devices can do, measured once and kept: estimates are made from it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from django.conf import settings
from pydantic import ValidationError

from celery_workers.contract.estimates import Machine
from pipelines.engine.children import ROOT, child_environment

logger = logging.getLogger(__name__)

MEASURE_SECONDS = 120.0


def profile_of(place: str, *, threads: int) -> Machine | None:
    """Return the profile of ``place`` (``cpu`` or a CUDA device) for nodes of that many threads; None if it cannot be measured.

    Kept below ``VAR_DIR`` for this version of torch, so that only a machine's first start takes the seconds.
    """
    name = f"{place}-{threads}-{version('torch')}".replace("/", "_")
    path = Path(settings.VAR_DIR) / "device-profiles" / f"{name}.json"
    try:
        return Machine.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        machine = _measure(place, threads=threads)
    if machine is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(machine.model_dump_json(), encoding="utf-8")
        draft.replace(path)
    return machine


def _measure(place: str, *, threads: int) -> Machine | None:
    environment = child_environment(os.environ, device=place) | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "celery_workers.measure_device", "--threads", str(threads)]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=MEASURE_SECONDS, check=True)
        return Machine.model_validate_json(done.stdout)
    except (OSError, subprocess.SubprocessError, ValidationError) as error:
        logger.warning("The speed of %s could not be measured, so estimates will have no times: %s", place, error)
        return None
