"""Where the kernel's out-of-memory counters are found, and when they count."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pipelines.engine import endings
from pipelines.engine.endings import Ending, describe_ending, oom_kills


def ending(status: int, **changes: object) -> Ending:
    values: dict[str, object] = {
        "exit_status": status,
        "was_ready": True,
        "oom_kills_before": {"a": 1, "b": 5},
        "oom_kills_after": {"a": 1, "b": 5},
        "stderr_tail": [],
    }
    return Ending(**(values | changes))  # type: ignore[arg-type]


def test_a_counter_that_rose_makes_a_kill_one_of_memory() -> None:
    failure = describe_ending(ending(-signal.SIGKILL, oom_kills_after={"a": 2, "b": 5}))
    assert (failure.error_kind, failure.code, failure.evidence["oom_kills"]) == ("resource", "out_of_memory", {"a": 1})


def test_a_counter_not_seen_before_says_nothing() -> None:
    failure = describe_ending(ending(-signal.SIGKILL, oom_kills_before={}, oom_kills_after={"a": 2}))
    assert (failure.error_kind, failure.code) == ("infrastructure", "child_killed")


def test_a_fault_stays_a_fault_when_memory_ran_out_elsewhere() -> None:
    assert describe_ending(ending(-signal.SIGSEGV, oom_kills_after={"a": 2, "b": 5})).code == "child_crashed"


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    assert describe_ending(ending(-40)).evidence["signal"] in ("signal 40", "SIGRTMIN+6")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.events": 3, "a/memory.events": 4}),
        ("4:memory:/a/b\n1:cpu:/\n0::/\n", {"memory/a/b/memory.oom_control": 3, "memory/a/memory.oom_control": 4}),
    ],
    ids=["version 2", "version 1"],
)
def test_counters_are_read_up_to_the_root(
    lines: str, expected: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, count in expected.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"oom 9\noom_kill_disable 0\noom_kill {count}\n")
    own = tmp_path / "self"
    own.write_text(lines)
    monkeypatch.setattr(endings, "CGROUPS", tmp_path)
    monkeypatch.setattr(endings, "OWN_CGROUPS", own)
    found = {path.removeprefix(f"{tmp_path}/"): count for path, count in oom_kills().items() if path.startswith(str(tmp_path))}
    assert found == expected
