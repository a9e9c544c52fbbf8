"""Agent processes start clean, are kept warm, and never outlive their worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from celery_workers.contract.messages import Ready, from_child, receive
from pipelines.engine import children
from pipelines.engine.children import ChildPool, child_environment, start_child
from pipelines.engine.tests.acting import REGISTRY

WORKER = """
import sys, time
from pathlib import Path
from pipelines.engine.children import ChildPool
from pipelines.engine.supervisor import Orders, supervise
from pipelines.engine.tests.acting import REGISTRY
from pipelines.engine.tests.supervision import Recording, Stage

class Telling(Recording):
    def on_log(self, message):
        if "grandchild" in message.data:
            print(stage.child.pid, message.data["grandchild"], pool._next.result().pid, flush=True)

pool = ChildPool(warm="light", registry=REGISTRY)
stage = Stage(pool, Path(sys.argv[1]))
stage.play("leave grandchild and wait", Telling())
"""


def eventually(claim: Callable[[], bool], *, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def pool() -> Iterator[ChildPool]:
    pool = ChildPool(warm="light", registry=REGISTRY)
    yield pool
    pool.close()


def test_only_listed_variables_pass() -> None:
    environment = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "CUDA_HOME": "/cuda",
        "OMP_PROC_BIND": "true",
        "DEFAULT_LORA_R": "4",
        "DATABASE_URL": "postgresql://u:p@h/d",
        "AWS_SECRET_ACCESS_KEY": "s",
        "HF_TOKEN": "s",
        "PGPASSWORD": "s",
    }
    passed = child_environment(environment, device="cpu")
    assert set(passed) - set(children.FIXED) == {
        "PATH",
        "LC_ALL",
        "CUDA_HOME",
        "OMP_PROC_BIND",
        "DEFAULT_LORA_R",
        "CUDA_VISIBLE_DEVICES",
    }
    assert child_environment({"CUDA_VISIBLE_DEVICES": "0,1"}, device="GPU-7")["CUDA_VISIBLE_DEVICES"] == "GPU-7"


def test_a_child_leads_its_own_session_and_says_when_it_is_ready() -> None:
    child = start_child(warm="light", registry=REGISTRY)
    payload = receive(child.connection)
    assert payload is not None
    assert from_child.validate_json(payload) == Ready(pid=child.pid)
    assert os.getpgid(child.pid) == os.getsid(child.pid) == child.pid
    child.close()
    assert not psutil.pid_exists(child.pid)


def test_a_light_child_does_not_load_torch() -> None:
    child = start_child(warm="light", registry=REGISTRY)
    receive(child.connection)
    maps = Path(f"/proc/{child.pid}/maps").read_text()
    child.close()
    assert "pyarrow" in maps
    assert "libtorch" not in maps


def test_a_torch_child_has_loaded_it() -> None:
    child = start_child(warm="torch", registry=REGISTRY)
    receive(child.connection)
    maps = Path(f"/proc/{child.pid}/maps").read_text()
    child.close()
    assert "libtorch" in maps


def test_closing_a_child_leaves_no_descriptor_behind() -> None:
    start_child(warm="light", registry=REGISTRY).close()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    child = start_child(warm="light", registry=REGISTRY)
    child.close()
    child.close()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_the_next_child_is_warm_when_it_is_taken(pool: ChildPool) -> None:
    first = pool.take()
    upcoming = pool._next
    assert upcoming is not None
    second = pool.take()
    assert upcoming.result() is second
    first.close()
    second.close()


def test_a_warm_child_that_died_is_replaced(pool: ChildPool) -> None:
    pool.warm_up()
    assert pool._next is not None
    dead = pool._next.result()
    os.kill(dead.pid, signal.SIGKILL)
    assert eventually(lambda: not dead.is_alive())
    child = pool.take()
    assert child is not dead
    assert child.is_alive()
    assert dead.group_is_gone()
    child.close()


def test_closing_the_pool_ends_the_warm_child() -> None:
    pool = ChildPool(warm="light", registry=REGISTRY)
    pool.warm_up()
    assert pool._next is not None
    warm = pool._next.result()
    pool.close()
    assert warm.group_is_gone()
    with pytest.raises(RuntimeError, match="closed"):
        pool.take()


@pytest.mark.parametrize("is_stopped", [False, True], ids=["running", "stopped"])
def test_when_a_worker_is_killed_everything_it_started_ends(tmp_path: Path, is_stopped: bool) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE, cwd=children.ROOT, text=True
    )
    assert worker.stdout is not None
    pids = [int(word) for word in worker.stdout.readline().split()]
    assert len(pids) == 3
    started = [*pids, *(item.pid for pid in pids for item in psutil.Process(pid).children())]
    assert len(started) >= 5  # child, grandchild, warm child, and the watchdogs
    if is_stopped:
        os.kill(pids[0], signal.SIGSTOP)
    worker.kill()
    worker.wait()
    worker.stdout.close()
    assert eventually(lambda: not any(runs(pid) for pid in started)), [pid for pid in started if runs(pid)]


def test_a_grandchild_in_the_group_keeps_the_group_there() -> None:
    child = start_child(warm="light", registry=REGISTRY)
    receive(child.connection)
    os.kill(child.pid, signal.SIGKILL)
    assert eventually(lambda: not child.is_alive())
    assert not child.group_is_gone()  # its watchdog is a member
    child.kill_and_wait()
    assert child.group_is_gone()
    child.close()


def test_what_a_child_says_is_json_a_line(pool: ChildPool) -> None:
    child = pool.take()
    payload = receive(child.connection)
    child.close()
    assert json.loads(payload or b"")["type"] == "ready"
