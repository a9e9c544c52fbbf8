"""Run a command that does not outlive its parent.

``python tether.py PARENT_PID SIGNAL UID GID COMMAND…`` gives up root where UID is not -1, asks the kernel for SIGNAL at
the parent's death, and becomes the command. The order matters: a change of credentials clears the request. The kernel
ties the request to the *thread* that started us, so start tethered commands from a thread that lives as long as it should
hold them (the main thread). Systems without such a request (macOS) get a small watcher process instead.

It imports nothing of the platform: it starts in 20 ms and runs before privileges are dropped.
"""

from __future__ import annotations

import contextlib
import ctypes  # imported before privileges go: the other user may not be able to read Python's library
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
WATCH_SECONDS = 0.5


def tethered(
    command: Sequence[str], *, death_signal: signal.Signals, uid: int | None = None, gid: int | None = None
) -> list[str]:
    """Return the command line that runs ``command`` tethered to the calling process."""
    program = shutil.which(command[0]) or command[0]
    wrapper = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(death_signal))]
    return [*wrapper, str(-1 if uid is None else uid), str(-1 if gid is None else gid), program, *command[1:]]


def _ask_kernel(death_signal: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit(f"tether: prctl failed: {os.strerror(ctypes.get_errno())}")


def _leave_watcher(parent: int, death_signal: int) -> None:
    """Fork a process that signals the command (our own process, soon) once ``parent`` is gone."""
    command = os.getpid()
    if os.fork():
        return
    os.setsid()
    os.closerange(0, 256)
    while os.getppid() == command:
        try:
            os.kill(parent, 0)
        except PermissionError:
            time.sleep(WATCH_SECONDS)
        except ProcessLookupError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(command, death_signal)
            break
        else:
            time.sleep(WATCH_SECONDS)
    os._exit(0)


def main(arguments: Sequence[str]) -> None:
    """Drop to the uid, tie the knot, and exec."""
    parent, death_signal, uid, gid = map(int, arguments[:4])
    command = list(arguments[4:])
    if uid != -1:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        _ask_kernel(death_signal)
    else:
        _leave_watcher(parent, death_signal)
    if os.getppid() != parent:  # it died before the knot was tied
        sys.exit("tether: the parent process is gone")
    try:
        os.execv(command[0], command)  # noqa: S606 - that is its purpose
    except OSError as error:
        sys.exit(f"tether: cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
