"""How a child that sent no result came to its end, and whose fault that was."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from celery_workers.contract.errors import ErrorKind
from celery_workers.contract.messages import Failure

# Faults in native code. The same code on the same input would fault again, so they are bugs, and are not retried.
CRASHES = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGSYS, signal.SIGTRAP}
)
LIMITS = frozenset({signal.SIGXCPU, signal.SIGXFSZ})
# C++ and CUDA end by abort() when an allocation fails where nothing catches it.
_ABORT_MEMORY_WORDS = ("bad_alloc", "Cannot allocate memory", "out of memory")

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def oom_kills() -> dict[str, int]:
    """Return the kernel's counters of out-of-memory kills that may concern this process, by source; empty where unknown.

    The counters of this process's own cgroup and of the groups around it (version 2, or the memory controller of version
    1), and the machine's own.
    """
    counters = {}
    for path in [*_cgroup_files(), Path("/proc/vmstat")]:
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        counters.update({str(path): int(line.split()[1]) for line in lines if line.startswith("oom_kill ")})
    return counters


def _cgroup_files() -> list[Path]:
    try:
        lines = OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    files = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            root, name = CGROUPS, "memory.events"
        elif "memory" in controllers.split(","):
            root, name = CGROUPS / "memory", "memory.oom_control"
        else:
            continue
        folder = root / group.lstrip("/")
        files += [place / name for place in (folder, *folder.parents) if place.is_relative_to(root)]
    return files


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What was seen of a child's end. ``exit_status`` is as ``Popen.returncode``: negative for a signal."""

    exit_status: int
    was_ready: bool
    oom_kills_before: dict[str, int]
    oom_kills_after: dict[str, int]
    stderr_tail: Sequence[str]


def describe_ending(ending: Ending) -> Failure:
    """Say why a child that nobody told to stop has ended without its result.

    ================================  ================================  ==============
    what was seen                     error                             kind
    ================================  ================================  ==============
    ended before it was ready         ``child_not_started``             infrastructure
    SIGKILL, an OOM counter rose      ``out_of_memory``                 resource
    abort() after a failed allocation ``out_of_memory``                 resource
    SIGKILL otherwise, SIGTERM, …     ``child_killed``                  infrastructure
    SIGSEGV and other faults          ``child_crashed``                 bug
    SIGXCPU, SIGXFSZ                  ``resource_limit``                resource
    exit status 0                     ``no_result``                     bug
    another exit status               ``child_exited``                  bug
    ================================  ================================  ==============
    """
    if ending.exit_status >= 0:
        return _exited(ending)
    number = -ending.exit_status
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if _ran_out_of_memory(ending):
        message = f"The agent process was ended by {name}: memory ran out."
        return _failure(ending, ErrorKind.RESOURCE, "out_of_memory", message, signal=name)
    if number in LIMITS:
        return _failure(ending, ErrorKind.RESOURCE, "resource_limit", f"The agent process hit a limit: {name}.", signal=name)
    if not ending.was_ready:
        message = f"The agent process was ended by {name} before it was ready."
        return _failure(ending, ErrorKind.INFRASTRUCTURE, "child_not_started", message, signal=name)
    if number in CRASHES:
        return _failure(ending, ErrorKind.BUG, "child_crashed", f"The agent process crashed: {name}.", signal=name)
    message = f"The agent process was killed from outside: {name}."
    return _failure(ending, ErrorKind.INFRASTRUCTURE, "child_killed", message, signal=name)


def _exited(ending: Ending) -> Failure:
    status = ending.exit_status
    if not ending.was_ready:
        message = f"The agent process ended with status {status} before it was ready."
        return _failure(ending, ErrorKind.INFRASTRUCTURE, "child_not_started", message, exit_status=status)
    if status == 0:
        message = "The agent process ended without a result."
        return _failure(ending, ErrorKind.BUG, "no_result", message, exit_status=status)
    message = f"The agent process ended with status {status} and without a result."
    return _failure(ending, ErrorKind.BUG, "child_exited", message, exit_status=status)


def _ran_out_of_memory(ending: Ending) -> bool:
    if ending.exit_status == -signal.SIGKILL:
        return bool(_risen(ending))
    tail = "\n".join(ending.stderr_tail)
    return ending.exit_status == -signal.SIGABRT and any(words in tail for words in _ABORT_MEMORY_WORDS)


def _risen(ending: Ending) -> dict[str, int]:
    before, after = ending.oom_kills_before, ending.oom_kills_after
    return {source: count - before[source] for source, count in after.items() if source in before and count > before[source]}


def _failure(ending: Ending, kind: ErrorKind, code: str, message: str, **evidence: object) -> Failure:
    if risen := _risen(ending):
        evidence["oom_kills"] = risen
    if ending.stderr_tail:
        evidence["stderr"] = list(ending.stderr_tail)
    return Failure(error_kind=kind, code=code, message=message, evidence=evidence)
