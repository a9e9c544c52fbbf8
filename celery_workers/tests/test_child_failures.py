"""What an exception means for retries."""

from __future__ import annotations

import errno

import pytest

from celery_workers.child_failures import failure_of
from celery_workers.contract.errors import Canceled, InfrastructureError, ResourceError, UserInputError


class OutOfMemoryError(RuntimeError):
    """Named as torch's, which needs no import to be recognized."""


def _wrapped(cause: Exception) -> Exception:
    try:
        raise RuntimeError("PytorchStreamWriter failed writing file") from cause
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (UserInputError("x"), "user", "invalid_input"),
        (ResourceError("x", code="disk_full"), "resource", "disk_full"),
        (InfrastructureError("x"), "infrastructure", "infrastructure"),
        (MemoryError(), "resource", "out_of_memory"),
        (OutOfMemoryError("CUDA"), "resource", "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "resource", "out_of_memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "resource", "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "resource", "disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "resource", "disk_full"),
        (_wrapped(OSError(errno.ENOSPC, "No space left on device")), "resource", "disk_full"),
        (Exception("SafetensorError: IoError: No space left on device (os error 28)"), "resource", "disk_full"),
        (OSError(errno.EMFILE, "Too many open files"), "resource", "too_many_files"),
        (OSError(errno.EIO, "Input/output error"), "infrastructure", "io_error"),
        (ConnectionResetError(), "infrastructure", "io_error"),
        (TimeoutError(), "infrastructure", "io_error"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "bug", "unexpected_error"),
        (PermissionError(errno.EACCES, "Permission denied"), "bug", "unexpected_error"),
        (SystemExit(0), "bug", "agent_exited"),
        (ValueError("x"), "bug", "unexpected_error"),
        (Canceled("unasked"), "bug", "unexpected_error"),
    ],
    ids=str,
)
def test_an_exception_is_put_down_to_whose_fault_it_was(error: BaseException, kind: str, code: str) -> None:
    failure = failure_of(error, stop_code=None)
    assert (failure.error_kind, failure.code) == (kind, code)


@pytest.mark.parametrize("code", ["canceled", "shutdown"])
def test_stopping_as_told_is_nobodys_fault(code: str) -> None:
    failure = failure_of(Canceled(), stop_code=code)
    assert (failure.error_kind, failure.code, failure.traceback) == (None, code, "")
