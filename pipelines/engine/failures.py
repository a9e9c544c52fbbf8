"""What an exception of the engine itself means for the attempt that it ended."""

from __future__ import annotations

import traceback

from celery_workers.contract.errors import AgentError, ErrorKind
from celery_workers.contract.messages import Failure
from pipelines.engine.attempts import AttemptError
from pipelines.engine.database import OUTAGES
from platform_site.common.errors import InvalidFile, StorageFull, Unavailable
from platform_site.common.store import ContentCorrupt, ContentMissing

_KINDS: tuple[tuple[type[Exception], ErrorKind, str], ...] = (
    (StorageFull, ErrorKind.RESOURCE, "disk_full"),
    (Unavailable, ErrorKind.INFRASTRUCTURE, "store_unavailable"),
    (ContentMissing, ErrorKind.INFRASTRUCTURE, "content_missing"),
    (ContentCorrupt, ErrorKind.INFRASTRUCTURE, "content_corrupt"),
    (InvalidFile, ErrorKind.BUG, "invalid_output"),
    *((outage, ErrorKind.INFRASTRUCTURE, "database_unavailable") for outage in OUTAGES),
    (OSError, ErrorKind.INFRASTRUCTURE, "os_error"),
)
_FULL_ERRNOS = (28, 122)  # ENOSPC, EDQUOT


def error_of_exception(error: Exception) -> AttemptError:
    """Return the error to record for an exception that was raised around the child."""
    if isinstance(error, AgentError):
        return AttemptError(
            kind=error.kind, code=error.code, message=error.message, field=error.field or "", evidence=error.evidence
        )
    if isinstance(error, OSError) and error.errno in _FULL_ERRNOS:
        return AttemptError(
            kind=ErrorKind.RESOURCE,
            code="disk_full",
            message=f"the disk is full: {error.strerror} at {error.filename}; free some space and retry",
        )
    for kind_of_exception, kind, code in _KINDS:
        if isinstance(error, kind_of_exception):
            return AttemptError(kind=kind, code=code, message=str(error) or type(error).__name__)
    trace = "".join(traceback.format_exception(error))[-8000:]
    message = f"{type(error).__name__}: {error}"
    return AttemptError(kind=ErrorKind.BUG, code="engine_bug", message=message, evidence={"traceback": trace})


def error_of_failure(failure: Failure) -> AttemptError:
    """Return the error to record for what a child or its supervisor said."""
    evidence = dict(failure.evidence)
    if failure.traceback:
        evidence["traceback"] = failure.traceback[-8000:]
    return AttemptError(
        kind=failure.error_kind or ErrorKind.BUG,
        code=failure.code,
        message=failure.message,
        field=failure.field or "",
        evidence=evidence,
    )
