"""``manage.py run``: what a person sees, and what is left when it ends."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator

import psutil
import pytest
import requests

from platform_site.tests.platform.harness import Platform, chat_rows, pipeline, wait_for

SECOND_START_SECONDS = 5.0


@pytest.fixture
def fresh(model_roots) -> Iterator[Platform]:
    platform = Platform(settings={"MODEL_ROOTS": str(model_roots)})
    yield platform
    platform.remove()


def command_lines(platform: Platform) -> str:
    return "\n".join(" ".join(process.cmdline()) for process in platform.processes() if is_running(process))


def is_running(process: psutil.Process) -> bool:
    """Whether a process still runs; one that ended and waits for the system's init to notice does not."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def assert_gone(processes: list[psutil.Process], *, seconds: float = 1) -> None:
    _, left = psutil.wait_procs(processes, timeout=seconds)
    alive = [process for process in left if is_running(process)]
    assert not alive, alive


def test_first_start_prints_a_login_link_that_works_and_ctrl_c_leaves_nothing(fresh: Platform):
    fresh.start()
    wait_for(lambda: "beat" in command_lines(fresh), seconds=10, what="beat, which comes last")
    family = fresh.processes()
    names = command_lines(fresh)
    for part in ("manage.py run", "embedded.keeper", "postgres", "valkey-server", "uvicorn", "-Q cpu", "-Q gpu", "beat"):
        assert part in names
    link = (fresh.var_dir / "logs/login.txt").read_text().strip()
    session = requests.Session()
    assert session.get(link, timeout=10).url == f"{fresh.url}/"
    assert "sessionid" in session.cookies
    assert requests.get(link, timeout=10).status_code == 403

    fresh.launcher.send_signal(signal.SIGINT)
    shown = fresh.launcher.communicate(timeout=60)[0]
    assert fresh.launcher.returncode == 0
    assert_gone(family)
    assert link in shown
    assert "is ready after" in shown
    assert shown.rstrip().endswith("Stopped.")


def test_second_start_keeps_everything_and_a_running_training_goes_on(fresh: Platform):
    fresh.start()
    fresh.make_token()
    dataset = fresh.upload(chat_rows(60), name="kept")
    training = {"epochs": 1000, "max_steps": 60, "batch_size": 1, "checkpoint_every_steps": 5}
    run_id = fresh.start_run(pipeline(dataset, training=training, full=False))
    fresh.wait_for_step(run_id, "training", 7)
    family = fresh.processes()
    assert fresh.stop(signal.SIGTERM) == 0
    assert_gone(family)

    fresh.start()
    job = fresh.wait_until_ended(run_id)
    assert job["status"] == "succeeded", job
    events = fresh.history(run_id)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    first_steps = [event["step"] for event in events if event["attempt"] == 2 and event["type"] == "metric"]
    assert first_steps[0] > 5
    assert fresh.stop() == 0


def test_killed_launcher_takes_everything_along(fresh: Platform):
    fresh.start()
    family = fresh.processes()
    fresh.launcher.kill()
    fresh.launcher.wait()
    fresh.launcher.stdout.close()
    assert_gone(family, seconds=40)


def test_taken_port_is_named_with_the_way_out(fresh: Platform):
    with socket.socket() as other:
        other.bind(("127.0.0.1", fresh.port))
        other.listen()
        fresh.launch()
        shown = fresh.launcher.communicate(timeout=60)[0]
    assert fresh.launcher.returncode != 0
    assert f"API_PORT: port {fresh.port} of 127.0.0.1 is taken" in shown
    assert f"API_PORT={fresh.port + 1} make run" in shown
    assert "Traceback" not in shown
    assert not psutil.pid_exists(_keeper_pid(fresh))


def test_bad_setting_is_named_in_one_line(fresh: Platform):
    fresh.settings["API_PORT"] = "99999"
    fresh.launch()
    shown = fresh.launcher.communicate(timeout=60)[0]
    assert fresh.launcher.returncode != 0
    assert shown.startswith("API_PORT: ")
    assert len(shown.splitlines()) == 1


def _keeper_pid(platform: Platform) -> int:
    from platform_site.embedded.state import read_state

    return read_state(platform.var_dir).keeper_pid
