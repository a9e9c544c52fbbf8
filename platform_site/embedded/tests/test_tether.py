"""A tethered command ends when its parent does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

PARENT = """
import signal, subprocess, sys, time
from platform_site.embedded.tether import tethered
child = subprocess.Popen(tethered(["sleep", "600"], death_signal=signal.SIGTERM))
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def parent_and_child():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    yield parent, child
    parent.kill()
    parent.wait()
    parent.stdout.close()
    if child.is_running():
        child.kill()


def _wait_for_exec(child: psutil.Process) -> None:
    deadline = time.monotonic() + 10
    while child.name() != "sleep":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_child_ends_when_its_parent_is_killed(parent_and_child):
    parent, child = parent_and_child
    _wait_for_exec(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs([child], timeout=5)
    assert not alive


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_child_of_another_user_ends_too():
    script = PARENT.replace("signal.SIGTERM", "signal.SIGTERM, uid=65534, gid=65534")
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    _wait_for_exec(child)
    assert child.uids().effective == 65534
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs([child], timeout=5)
    assert not alive


def test_command_that_does_not_exist_is_named():
    from platform_site.embedded.tether import tethered

    result = subprocess.run(
        tethered(["/no/such/program"], death_signal=signal.SIGTERM), capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "cannot run /no/such/program" in result.stderr
