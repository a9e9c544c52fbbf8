"""The agent process by hand: its end of the socket, and what ends it. How agents fare in it is tested with the supervisor."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from celery_workers.child_link import _newest_progress_only
from celery_workers.contract.messages import Failure, Log, Message, Progress, Ready, Request, from_child, receive, send
from pipelines.engine.children import ROOT
from pipelines.engine.tests.acting import REGISTRY

WAIT_SECONDS = 30


@dataclass
class Process:
    popen: subprocess.Popen[bytes]
    connection: socket.socket
    alive_fd: int

    def hear(self) -> object:
        payload = receive(self.connection)
        return None if payload is None else from_child.validate_json(payload)


@pytest.fixture
def process() -> Iterator[Process]:
    ours, theirs = socket.socketpair()
    ours.settimeout(WAIT_SECONDS)
    watched_fd, alive_fd = os.pipe()
    command = [sys.executable, "-m", "celery_workers.agent_process", "--socket-fd", str(theirs.fileno())]
    command += ["--alive-fd", str(watched_fd), "--registry", REGISTRY]
    # No new session: it must make itself the leader of its group.
    popen = subprocess.Popen(command, pass_fds=(theirs.fileno(), watched_fd), cwd=ROOT)
    theirs.close()
    os.close(watched_fd)
    yield Process(popen, ours, alive_fd)
    popen.kill()
    popen.wait()
    ours.close()
    os.close(alive_fd)


def request(workdir: Path, act: str, **fields: object) -> Request:
    values: dict[str, object] = {"config": {"act": act}, "workdir": str(workdir), "agent": "ActingAgent"}
    fixed: dict[str, object] = {
        "run_id": "r",
        "node": "n",
        "attempt": 1,
        "inputs": {},
        "references": {},
        "seed": 1,
        "threads": 1,
    }
    return Request.model_validate(fixed | values | fields)


def test_it_leads_its_group_and_answers_once(process: Process, tmp_path: Path) -> None:
    assert process.hear() == Ready(pid=process.popen.pid)
    assert os.getpgid(process.popen.pid) == process.popen.pid
    send(process.connection, request(tmp_path, "bug"))
    answer = process.hear()
    assert isinstance(answer, Failure)
    assert answer.code == "unexpected_error"
    assert process.hear() is None
    assert process.popen.wait(WAIT_SECONDS) == 0


@pytest.mark.parametrize("has_request", [False, True], ids=["waiting", "running"])
def test_the_end_of_the_socket_ends_it(process: Process, tmp_path: Path, has_request: bool) -> None:
    process.hear()
    if has_request:
        send(process.connection, request(tmp_path, "ignore"))
        assert isinstance(process.hear(), Log)
    process.connection.close()
    assert process.popen.wait(WAIT_SECONDS) == -signal.SIGKILL


def test_nonsense_from_the_supervisor_ends_it(process: Process) -> None:
    process.hear()
    process.connection.sendall(b"\x00\x00\x00\x02{}")
    assert process.popen.wait(WAIT_SECONDS) == -signal.SIGKILL


def test_sigterm_means_save_and_stop(process: Process, tmp_path: Path) -> None:
    process.hear()
    send(process.connection, request(tmp_path, "wait"))
    assert isinstance(process.hear(), Log)
    process.popen.terminate()
    answer = process.hear()
    assert isinstance(answer, Failure)
    assert (answer.error_kind, answer.code) == (None, "shutdown")


def test_of_progress_in_a_row_only_the_newest_is_sent() -> None:
    log = Log(level="INFO", message="", timestamp=0)
    old, new, last = (Progress(fraction=fraction) for fraction in (0.1, 0.2, 0.3))
    batch: list[Message] = [old, new, log, old, last]
    assert _newest_progress_only(batch) == [new, log, last]
