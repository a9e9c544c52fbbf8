"""Real children, real signals: how each of them ends, and that nothing of it is left."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from celery_workers.contract.errors import ErrorKind
from celery_workers.contract.messages import Checkpoint, Failure, Log, Result
from pipelines.engine.children import ChildPool
from pipelines.engine.tests.acting import REGISTRY
from pipelines.engine.tests.supervision import Recording, Stage

KILL_SECONDS = 3.0  # more than SIGTERM to SIGKILL takes, much less than the acts sleep


@pytest.fixture(scope="module")
def pool() -> Iterator[ChildPool]:
    pool = ChildPool(warm="light", registry=REGISTRY)
    pool.warm_up()
    yield pool
    pool.close()


@pytest.fixture
def stage(pool: ChildPool, tmp_path: Path) -> Stage:
    return Stage(pool, tmp_path)


def said(answer: Result | Failure) -> object:
    assert isinstance(answer, Result), answer
    return json.loads(Path(answer.outputs["file"][0].path).read_text())


def failure(answer: Result | Failure) -> tuple[ErrorKind | None, str]:
    assert isinstance(answer, Failure), answer
    return answer.error_kind, answer.code


# What an agent is given


def test_the_agent_runs_in_its_workdir_with_its_seed(stage: Stage) -> None:
    answer = stage.play("answer", seed=5, attempt=2, resume_from="/checkpoint")
    assert said(answer) == {"cwd": str(stage.workdir), "seed": 5, "attempt": 2, "resume_from": "/checkpoint"}
    assert answer.outputs["file"][0].metadata == {"act": "answer"}


def test_the_same_seed_gives_the_same_numbers(stage: Stage) -> None:
    first, second, other = (said(stage.play("random", seed=seed)) for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_no_secret_reaches_the_child(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        name: f"hidden-{name}" for name in ("DATABASE_URL", "REDIS_URL", "MINIO_SECRET_KEY", "HF_TOKEN", "SECRET_KEY", "X_KEY")
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    pool = ChildPool(warm="light", registry=REGISTRY)
    seen: list[bytes] = []
    own = Stage(pool, stage.workdir)
    answer = own.play("environment", Recording(), device="cpu", threads=3)
    child = pool.take()
    seen.append(Path(f"/proc/{child.pid}/environ").read_bytes())
    child.close()
    pool.close()
    environment = said(answer)
    assert isinstance(environment, dict)
    assert "hidden-" not in json.dumps(environment)
    assert b"hidden-" not in seen[0]
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["HF_HUB_OFFLINE"] == "1"


def test_a_device_is_pinned(stage: Stage) -> None:
    environment = said(stage.play("environment", device="GPU-1234"))
    assert isinstance(environment, dict)
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-1234"


def test_references_are_resolved_from_the_request(stage: Stage) -> None:
    assert said(stage.play("reference", references={"local:model": "/models/a"})) == "/models/a"
    assert failure(stage.play("reference")) == (ErrorKind.USER, "unresolved_reference")


# What an agent says


def test_metrics_logs_and_progress_arrive_in_order_and_complete(stage: Stage) -> None:
    listener = Recording()
    answer = stage.play("talk", listener, count=20_000)
    assert isinstance(answer, Result)
    assert [metric.step for metric in listener.metrics] == list(range(1, 20_001))
    assert (listener.metrics[0].loss, listener.metrics[0].data) == ("nan", {"grad_norm": "inf", "rate": 0.1})
    assert listener.fractions[-1] == 1.0
    assert listener.logs[-1].data == {"path": "/a", "nothing": None}


def test_the_listener_is_called_in_the_callers_thread_only(stage: Stage) -> None:
    listener = Recording()
    stage.play("print", listener, count=3)
    assert listener.threads == {threading.get_ident()}


def test_prints_become_log_lines(stage: Stage) -> None:
    listener = Recording()
    stage.play("print", listener, count=2)
    by_line = {log.message: (log.level, log.data) for log in listener.logs}
    assert by_line["line 1"] == ("INFO", {"stream": "stdout"})
    assert by_line["straight to the descriptor"] == ("INFO", {"stream": "stdout"})
    assert by_line["to stderr"] == ("WARNING", {"stream": "stderr"})


def test_a_flood_of_prints_is_bounded_and_does_not_hold_up_the_agent(stage: Stage) -> None:
    listener = Recording()
    answer = stage.play("print", listener, count=200_000)
    assert isinstance(answer, Result)
    assert len(listener.logs) < 3000
    assert any("were left out" in line for line in listener.lines)


def test_an_endless_line_is_cut(stage: Stage) -> None:
    listener = Recording()
    assert isinstance(stage.play("print one long line", listener, count=5_000_000), Result)
    assert sum(len(line) for line in listener.lines) < 5000


def test_records_of_logging_and_warnings_become_log_lines(stage: Stage) -> None:
    listener = Recording()
    stage.play("warn", listener)
    first, second = listener.logs
    assert (first.level, first.message, first.data) == ("WARNING", "careful with that", {"logger": "library"})
    assert "UserWarning: old" in second.message


def test_the_agent_goes_on_after_its_checkpoint_is_stored(stage: Stage) -> None:
    order: list[str] = []

    class Slow(Recording):
        def on_checkpoint(self, message: Checkpoint) -> None:
            time.sleep(0.3)
            order.append(f"stored {message.step}")

        def on_log(self, message: Log) -> None:
            order.append(message.message)

    assert isinstance(stage.play("checkpoint", Slow(), count=2), Result)
    assert order == ["stored 1", "went on after 1", "stored 2", "went on after 2"]


def test_a_checkpoint_that_cannot_be_stored_ends_the_child_and_comes_out(stage: Stage) -> None:
    class Full(Recording):
        def on_checkpoint(self, message: Checkpoint) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        stage.play("checkpoint", Full())
    assert stage.child is not None
    assert stage.child.group_is_gone()


def test_a_quiet_child_lets_the_listener_write_what_it_gathered(stage: Stage) -> None:
    listener = Recording(on_first_log=lambda: threading.Timer(0.5, stage.orders.cancel).start())
    stage.play("wait", listener)
    assert listener.idle >= 3


# How an agent stops


@pytest.mark.parametrize("code", ["canceled", "shutdown"])
def test_an_agent_that_listens_stops_at_once(stage: Stage, code: str) -> None:
    order = stage.orders.cancel if code == "canceled" else stage.orders.shutdown
    listener = Recording(on_first_log=order)
    started = time.monotonic()
    assert failure(stage.play("wait", listener, grace_seconds=60)) == (None, code)
    assert time.monotonic() - started < 10


def test_an_order_given_before_the_start_is_obeyed(stage: Stage) -> None:
    stage.orders.cancel()
    assert failure(stage.play("wait", grace_seconds=60)) == (None, "canceled")


def test_a_checkpoint_is_saved_between_the_order_and_the_end(stage: Stage) -> None:
    listener = Recording(on_first_log=stage.orders.shutdown)
    assert failure(stage.play("checkpoint when stopped", listener, count=3)) == (None, "shutdown")
    assert listener.steps == [1, 2, 3]


@pytest.mark.parametrize("act", ["ignore", "leave grandchild and wait"])
def test_an_agent_that_does_not_listen_is_killed_after_the_grace_period(stage: Stage, act: str) -> None:
    asked: list[float] = []

    def cancel() -> None:
        asked.append(time.monotonic())
        stage.orders.cancel()

    answer = stage.play(act, Recording(on_first_log=cancel), grace_seconds=0.5)
    waited = time.monotonic() - asked[0]
    assert failure(answer) == (None, "canceled")
    assert answer.evidence == {"killed": True}
    assert 0.5 <= waited < 0.5 + KILL_SECONDS


def test_a_stopped_process_is_killed_as_well(stage: Stage) -> None:
    def freeze() -> None:
        assert stage.child is not None
        os.kill(stage.child.pid, signal.SIGSTOP)
        stage.orders.cancel()

    assert failure(stage.play("wait", Recording(on_first_log=freeze), grace_seconds=0.2)) == (None, "canceled")


def test_an_abandoned_attempt_is_killed_without_grace(stage: Stage) -> None:
    started: list[float] = []

    def abandon() -> None:
        started.append(time.monotonic())
        stage.orders.abandon()

    assert failure(stage.play("ignore", Recording(on_first_log=abandon), grace_seconds=60)) == (
        ErrorKind.INFRASTRUCTURE,
        "abandoned",
    )
    assert time.monotonic() - started[0] < KILL_SECONDS


def test_an_order_is_obeyed_while_the_listener_is_busy(stage: Stage) -> None:
    ended_after: list[float] = []

    class Busy(Recording):
        def on_checkpoint(self, message: Checkpoint) -> None:
            started = time.monotonic()
            stage.orders.abandon()
            assert stage.child is not None
            while not stage.child.group_is_gone():
                assert time.monotonic() - started < 10
                time.sleep(0.01)
            ended_after.append(time.monotonic() - started)

    stage.play("checkpoint", Busy())
    assert ended_after[0] < KILL_SECONDS


# How an agent ends


def test_a_grandchild_does_not_outlive_the_answer(stage: Stage) -> None:
    pid = said(stage.play("leave grandchild"))
    assert isinstance(pid, int)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_thread_that_never_ends_does_not_hold_up_the_answer(stage: Stage) -> None:
    started = time.monotonic()
    assert isinstance(stage.play("keep thread"), Result)
    assert time.monotonic() - started < 8


@pytest.mark.parametrize(
    ("act", "count", "expected"),
    [
        ("exit", 0, (ErrorKind.BUG, "no_result")),
        ("exit", 3, (ErrorKind.BUG, "child_exited")),
        ("sys exit", 0, (ErrorKind.BUG, "agent_exited")),
        ("segfault", 0, (ErrorKind.BUG, "child_crashed")),
        ("signal self", int(signal.SIGABRT), (ErrorKind.BUG, "child_crashed")),
        ("signal self", int(signal.SIGKILL), (ErrorKind.INFRASTRUCTURE, "child_killed")),
        ("signal self", int(signal.SIGHUP), (ErrorKind.INFRASTRUCTURE, "child_killed")),
        ("signal self", int(signal.SIGXCPU), (ErrorKind.RESOURCE, "resource_limit")),
        ("abort without memory", 0, (ErrorKind.RESOURCE, "out_of_memory")),
        ("allocate", 0, (ErrorKind.RESOURCE, "out_of_memory")),
        ("fill disk", 0, (ErrorKind.RESOURCE, "disk_full")),
        ("user error", 0, (ErrorKind.USER, "bad_rank")),
        ("bug", 0, (ErrorKind.BUG, "unexpected_error")),
        ("escape", 0, (ErrorKind.BUG, "invalid_output")),
        ("speak nonsense", 0, (ErrorKind.BUG, "protocol")),
        ("announce huge frame", 0, (ErrorKind.BUG, "protocol")),
        ("answer twice", 0, (ErrorKind.BUG, "protocol")),
        ("answer outside", 0, (ErrorKind.BUG, "protocol")),
    ],
)
def test_every_bad_end_is_told_apart(stage: Stage, act: str, count: int, expected: tuple[ErrorKind, str]) -> None:
    assert failure(stage.play(act, count=count)) == expected


def test_a_child_that_just_ends_leaves_its_last_words_as_evidence(stage: Stage) -> None:
    answer = stage.play("exit", count=3)
    assert isinstance(answer, Failure)
    assert answer.evidence["exit_status"] == 3
    assert "last words" in answer.evidence["stderr"]  # type: ignore[operator]


def test_a_crash_shows_where_python_was(stage: Stage) -> None:
    answer = stage.play("segfault")
    assert isinstance(answer, Failure)
    assert any("_segfault" in line for line in answer.evidence["stderr"])  # type: ignore[attr-defined]


def test_an_error_of_the_user_comes_with_field_and_evidence_but_no_traceback(stage: Stage) -> None:
    answer = stage.play("user error")
    assert isinstance(answer, Failure)
    assert (answer.field, answer.evidence, answer.traceback) == ("rank", {"rank": 9, "loss": "nan"}, "")
    assert answer.message == "rank must be <= 8, got 9"


def test_a_bad_config_is_the_users(stage: Stage) -> None:
    answer = stage.play("answer", config={"act": "answer", "count": -1})
    assert failure(answer) == (ErrorKind.USER, "invalid_config")


def test_a_bug_comes_with_its_traceback(stage: Stage) -> None:
    answer = stage.play("bug")
    assert isinstance(answer, Failure)
    assert "KeyError: 'missing'" in answer.traceback


def test_a_child_that_cannot_start_is_the_infrastructures(tmp_path: Path) -> None:
    pool = ChildPool(warm="light", registry="pipelines.engine.tests.absent:registry")
    answer = Stage(pool, tmp_path).play("answer")
    pool.close()
    assert failure(answer) == (ErrorKind.INFRASTRUCTURE, "child_not_started")
    assert any("pipelines.engine.tests.absent" in line for line in answer.evidence["stderr"])  # type: ignore[union-attr]


def _memory_group() -> Path | None:
    """Return this process's own memory control group (version 1) if a group can be made below it."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(",") and os.access(Path("/sys/fs/cgroup/memory" + group), os.W_OK):
            return Path("/sys/fs/cgroup/memory" + group)
    return None


@pytest.mark.skipif(not Path("/proc/self/cgroup").exists() or _memory_group() is None, reason="no control group to limit")
def test_the_kernels_out_of_memory_kill_is_recognized(stage: Stage) -> None:
    parent = _memory_group()
    assert parent is not None
    group = parent / f"truetune-test-{os.getpid()}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(300 * 2**20))

    def confine() -> None:
        assert stage.child is not None
        (group / "cgroup.procs").write_text(str(stage.child.pid))

    try:
        answer = stage.play("fill memory", Recording(on_first_log=confine))
    finally:
        group.rmdir()
    assert failure(answer) == (ErrorKind.RESOURCE, "out_of_memory")
    assert answer.evidence["signal"] == "SIGKILL"
    assert answer.evidence["oom_kills"]


def test_supervision_says_nothing_on_its_own_log_when_all_goes_well(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        stage.play("answer")
    assert caplog.records == []
