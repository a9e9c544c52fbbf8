"""Programs run side by side, come back when they die, and end with their launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from platform_site.embedded import processes as module
from platform_site.embedded.processes import Processes, Program

PYTHON = sys.executable
LAUNCHER = """
import sys, time
from pathlib import Path
from platform_site.embedded.processes import Processes, Program
programs = [Program(name="sleeper", command=["sleep", "600"])]
processes = Processes(programs, log_folder=Path(sys.argv[1]), report=lambda *message: None)
processes.start()
print(processes.pid("sleeper"), flush=True)
time.sleep(600)
"""


class Reports(list):
    def __call__(self, name: str, message: str) -> None:
        self.append((name, message))


def wait_for(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def script(name: str, text: str, **options) -> Program:
    return Program(name=name, command=[PYTHON, "-c", text], **options)


def test_output_goes_to_one_log_file_each(tmp_path: Path):
    programs = [script("a", "print('from a'); import time; time.sleep(60)"), script("b", "import time; time.sleep(60)")]
    with Processes(programs, log_folder=tmp_path, report=Reports()) as processes:
        wait_for(lambda: "from a" in processes.log_file("a").read_text())
        assert processes.log_file("b").read_text() == ""


def test_programs_are_stopped_last_one_first_and_none_is_left(tmp_path: Path):
    reports = Reports()
    programs = [Program(name=name, command=["sleep", "600"]) for name in ("first", "second")]
    with Processes(programs, log_folder=tmp_path, report=reports) as processes:
        pids = [processes.pid("first"), processes.pid("second")]
    assert reports == [("second", "stopping"), ("first", "stopping")]
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_program_that_ignores_the_request_is_killed_with_its_children(tmp_path: Path):
    stubborn = (
        "import signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    )
    reports = Reports()
    with Processes([script("s", stubborn, stop_timeout_seconds=0.3)], log_folder=tmp_path, report=reports) as processes:
        wait_for(lambda: bool(processes.log_file("s").read_text().strip()))
        grandchild = psutil.Process(int(processes.log_file("s").read_text()))
    assert reports[-1] == ("s", "did not stop within 0 s and is killed")
    wait_for(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def test_program_that_dies_starts_again(tmp_path: Path):
    reports = Reports()
    with Processes([Program(name="s", command=["sleep", "600"])], log_folder=tmp_path, report=reports) as processes:
        first = processes.pid("s")
        wait_for(lambda: psutil.Process(first).name() == "sleep")
        os.kill(first, signal.SIGKILL)

        def is_back() -> bool:
            processes.check()
            return processes.pid("s") != first

        wait_for(is_back)
        assert reports[0][1].startswith("was killed by SIGKILL; starts again in 1 s")
        assert psutil.pid_exists(processes.pid("s"))


def test_pause_doubles_while_a_program_keeps_dying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 2.0)
    reports = Reports()
    with Processes([Program(name="f", command=["false"])], log_folder=tmp_path, report=reports) as processes:

        def has_died_three_times() -> bool:
            processes.check()
            return len(reports) == 3

        wait_for(has_died_three_times, seconds=15)
    pauses = [message.partition("again in ")[2].partition(" s")[0] for _, message in reports[:3]]
    assert pauses == ["1", "2", "2"]


def test_long_log_is_set_aside_and_writing_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LOG_LIMIT_BYTES", 1000)
    writer = script("w", "import time\nwhile True: print('x' * 99, flush=True); time.sleep(0.01)")
    with Processes([writer], log_folder=tmp_path, report=Reports()) as processes:

        def has_rotated_often() -> bool:
            processes.check()
            return (tmp_path / "w.log.3").exists()

        wait_for(has_rotated_often)
        assert not (tmp_path / "w.log.4").exists()
        assert b"\0" not in processes.log_file("w").read_bytes()


def test_programs_end_with_a_killed_launcher(tmp_path: Path):
    launcher = subprocess.Popen([PYTHON, "-c", LAUNCHER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    sleeper = psutil.Process(int(launcher.stdout.readline()))
    wait_for(lambda: sleeper.name() == "sleep")
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    _, alive = psutil.wait_procs([sleeper], timeout=5)
    assert not alive
