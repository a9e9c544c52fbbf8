"""A real Celery worker: it reports itself, outlives its broker's absence, and stops its nodes before itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from celery import Celery
from django.conf import settings
from django.db import connection
from django.utils import timezone

from celery_workers.tests.broker import Broker
from celery_workers.worker_state import WorkerState
from pipelines.models import Worker

START_SECONDS = 60
FURTHER_TASKS = "celery_workers.tests.acting_worker"


def wait_for(claim: Callable[[], object], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


class Platform:
    """Celery programs on the test's database and a broker of their own."""

    def __init__(self, broker: Broker, log: Path) -> None:
        self.broker = broker
        self.log = log
        self._programs: list[subprocess.Popen[bytes]] = []
        self._environment = os.environ | {
            "REDIS_URL": broker.url,
            "DATABASE_URL": _database_url(),
            "RECONCILE_SECONDS": "0.5",
            "GPU_ENABLED": "false",
        }

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "celery", "-A", "platform_site.celery", *arguments]
            program = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        self._programs.append(program)
        return program

    def start_worker(self, queue: str = "cpu") -> subprocess.Popen[bytes]:
        options = ("-Q", queue, "-I", FURTHER_TASKS, "--without-gossip", "--without-mingle", "--without-heartbeat")
        worker = self.start("worker", *options)

        def is_up() -> bool:
            assert worker.poll() is None, self.log.read_text()
            return Worker.objects.filter(name__contains=f":{worker.pid}:").exists()

        wait_for(is_up, seconds=START_SECONDS)
        return worker

    def send(self, name: str, *arguments: str) -> None:
        Celery(broker=self.broker.url).send_task(name, args=arguments, queue="cpu", ignore_result=True)

    def close(self) -> None:
        for program in self._programs:
            program.kill()
            program.wait()


def _database_url() -> str:
    database = connection.settings_dict
    return f"postgresql://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"


@pytest.fixture
def platform(transactional_db: None, tmp_path: Path) -> Iterator[Platform]:
    broker = Broker(tmp_path)
    broker.start()
    platform = Platform(broker, tmp_path / "celery.log")
    yield platform
    platform.close()
    broker.stop()


def test_a_worker_reports_itself_and_takes_its_row_and_processes_along(platform: Platform) -> None:
    worker = platform.start_worker()
    row = Worker.objects.get()
    assert (row.queue, row.slots, row.devices) == ("cpu", settings.ENV.cpu_slots, [])
    assert row.name.startswith("cpu@")
    assert row.expires_at > timezone.now()
    wait_for(lambda: psutil.Process(worker.pid).children())
    started = psutil.Process(worker.pid).children(recursive=True)
    worker.terminate()
    assert worker.wait(30) == 0
    assert not Worker.objects.exists()
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in started)


def test_a_worker_measures_its_machine_once(platform: Platform) -> None:
    first = platform.start_worker("gpu")
    wait_for(lambda: Worker.objects.filter(profile__has_key="flops").exists(), seconds=120)
    profile = Worker.objects.get().profile
    assert profile["device"] == "cpu"
    assert profile["memory_bytes"] > 2**28
    assert all(speed > 1e8 for speed in profile["flops"].values())
    first.terminate()
    first.wait(30)
    platform.start_worker("gpu")
    # to the last digit, so it was read and not measured again
    wait_for(lambda: Worker.objects.filter(profile=profile).exists(), seconds=120)


def test_a_worker_never_loads_torch(platform: Platform) -> None:
    worker = platform.start_worker()
    assert "libtorch" not in Path(f"/proc/{worker.pid}/maps").read_text()


def test_a_node_saves_and_stops_before_its_worker_ends(platform: Platform, tmp_path: Path) -> None:
    worker = platform.start_worker()
    workdir = tmp_path / "node"
    workdir.mkdir()
    platform.send("tests.supervise", "checkpoint when stopped", str(workdir))
    wait_for(workdir.with_suffix(".started").exists)
    asked = time.monotonic()
    worker.terminate()
    assert worker.wait(30) == 0
    assert time.monotonic() - asked < 9  # not the grace period of 10 s
    answer = json.loads(workdir.with_suffix(".json").read_text())
    assert (answer["error_kind"], answer["code"]) == (None, "shutdown")


def test_a_killed_workers_node_ends_with_it(platform: Platform, tmp_path: Path) -> None:
    worker = platform.start_worker()
    workdir = tmp_path / "node"
    workdir.mkdir()
    platform.send("tests.supervise", "ignore", str(workdir))
    wait_for(lambda: workdir.with_suffix(".started").exists() and workdir.with_suffix(".started").read_text())
    child = psutil.Process(int(workdir.with_suffix(".started").read_text()))
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, seconds=5)


@pytest.mark.parametrize("outage", ["stop", "freeze"])
@pytest.mark.parametrize("seconds", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_worker_and_beat_go_on_when_the_broker_is_back(platform: Platform, outage: str, seconds: float) -> None:
    platform.start_worker()
    platform.start("beat", "--pidfile=")
    wait_for_tick()
    for _ in range(8):  # more than it has threads, so that it holds messages that it has not acknowledged
        platform.send("tests.sleep", "4")
    time.sleep(1)
    getattr(platform.broker, outage)()
    time.sleep(seconds)
    if outage == "stop":
        platform.broker.start()
    else:
        platform.broker.thaw()
    wait_for_tick()
    wait_for_tick()


def wait_for_tick() -> None:
    """See beat and worker at work: the reconciler removes rows of workers that vanished long ago."""
    long_ago = timezone.now() - timedelta(hours=1)
    Worker.objects.create(name=f"gone-{time.monotonic_ns()}", queue="cpu", expires_at=long_ago)
    wait_for(lambda: not Worker.objects.filter(name__startswith="gone-").exists(), seconds=START_SECONDS)


def test_a_worker_that_goes_away_lends_nothing_and_tells_every_node() -> None:
    state = WorkerState("cpu")
    with state.slot() as running:
        assert running is not None
        state.shut_down()
        assert running.orders.is_shut_down
        with state.slot() as late:
            assert late is None
    state.close()


def test_no_more_nodes_run_than_there_are_slots() -> None:
    state = WorkerState("cpu")
    assert len(state.places) == settings.ENV.cpu_slots == 2
    with state.slot() as one, state.slot() as two, state.slot() as three:
        assert one is not None
        assert two is not None
        assert one.orders is not two.orders
        assert three is None
    state.close()
