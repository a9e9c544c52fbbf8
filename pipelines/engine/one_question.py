"""Ask one question of a process that ends with its answer: for what the server must not import itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from pipelines.engine.children import ROOT, child_environment


class NoAnswer(Exception):
    """The process ended without one; ``status`` is as ``Popen.returncode``."""

    def __init__(self, module: str, status: int) -> None:
        super().__init__(f"{module} ended with status {status}")
        self.status = status


def ask_process(module: str, question: bytes, *, seconds: float) -> bytes:
    """Return what ``python -m module`` writes to its standard output, given ``question`` on its standard input.

    It has the scrubbed environment of an agent process, leads a group of its own, and one thread.

    Raises: TimeoutError: it took longer than ``seconds`` and was killed. NoAnswer: it failed. OSError: it cannot be started.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd=ROOT,
        env=child_environment(os.environ, device="cpu") | {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"},
    )
    try:
        output, _ = process.communicate(question, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{module} took longer than {seconds:.0f} s") from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise NoAnswer(module, process.returncode)
    return output
