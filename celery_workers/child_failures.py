"""What an agent's exception means: whose fault it was, and under which code scripts know it."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator

from celery_workers.contract.errors import AgentError, Canceled, ErrorKind
from celery_workers.contract.memory import is_out_of_memory
from celery_workers.contract.messages import Failure

TRACEBACK_LIMIT = 20_000  # characters, from the end: the cause stands there

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
# What another attempt, perhaps on another machine, may not meet again. Other OSErrors (no such file, is a folder, no
# permission) come from the agent's own doing and would come again.
_UNREACHABLE = {errno.EIO, errno.ESTALE, errno.EROFS, errno.ENXIO, errno.ENODEV, errno.ENETUNREACH, errno.EHOSTUNREACH}
# Native libraries (safetensors, tokenizers, torch) raise their own types; the system's words are all they pass on.
_DISK_FULL_WORDS = ("No space left on device", "os error 28", "Disk quota exceeded")


def failure_of(error: BaseException, *, stop_code: str | None) -> Failure:
    """Turn ``error`` into the answer. ``stop_code`` says why the agent was told to stop, if it was."""
    if isinstance(error, Canceled) and stop_code is not None:
        reason = "Canceled." if stop_code == "canceled" else "Stopped because the worker is going away."
        return Failure(error_kind=None, code=stop_code, message=reason)
    if isinstance(error, AgentError):
        trace = "" if error.kind is ErrorKind.USER else _trace(error)
        return Failure(
            error_kind=error.kind,
            code=error.code,
            message=error.message,
            field=error.field,
            evidence=error.evidence,
            traceback=trace,
        )
    kind, code = _meaning(error)
    return Failure(error_kind=kind, code=code, message=_one_line(error), traceback=_trace(error))


def _meaning(error: BaseException) -> tuple[ErrorKind, str]:
    for cause in _chain(error):
        if _is_disk_full(cause):
            return ErrorKind.RESOURCE, "disk_full"
        if is_out_of_memory(cause):
            return ErrorKind.RESOURCE, "out_of_memory"
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        return ErrorKind.RESOURCE, "too_many_files"
    if isinstance(error, ConnectionError | TimeoutError) or (isinstance(error, OSError) and error.errno in _UNREACHABLE):
        return ErrorKind.INFRASTRUCTURE, "io_error"
    if isinstance(error, SystemExit):
        return ErrorKind.BUG, "agent_exited"
    return ErrorKind.BUG, "unexpected_error"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return True
    return any(words in str(error) for words in _DISK_FULL_WORDS)


def _one_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-TRACEBACK_LIMIT:]
