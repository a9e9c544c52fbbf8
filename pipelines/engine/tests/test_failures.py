from __future__ import annotations

import errno

import pytest
from django.db import OperationalError

from celery_workers.contract import ErrorKind, ResourceError
from celery_workers.contract.messages import Failure
from pipelines.engine.failures import error_of_exception, error_of_failure
from platform_site.common.errors import InvalidFile, StorageFull, Unavailable
from platform_site.common.store import ContentCorrupt


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (StorageFull("no room"), ErrorKind.RESOURCE, "disk_full"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), ErrorKind.RESOURCE, "disk_full"),
        (Unavailable("store away"), ErrorKind.INFRASTRUCTURE, "store_unavailable"),
        (ContentCorrupt("x"), ErrorKind.INFRASTRUCTURE, "content_corrupt"),
        (OperationalError("gone"), ErrorKind.INFRASTRUCTURE, "database_unavailable"),
        (InvalidFile("a link"), ErrorKind.BUG, "invalid_output"),
        (ResourceError("out of memory"), ErrorKind.RESOURCE, "out_of_resources"),
        (KeyError("x"), ErrorKind.BUG, "engine_bug"),
    ],
)
def test_every_exception_has_a_kind_and_a_code(error: Exception, kind: ErrorKind, code: str) -> None:
    found = error_of_exception(error)
    assert (found.kind, found.code) == (kind, code)
    assert found.message


def test_a_full_disk_says_what_to_do() -> None:
    assert "free some space" in error_of_exception(OSError(errno.ENOSPC, "No space left on device", "/x")).message


def test_the_traceback_of_a_child_is_kept_as_evidence() -> None:
    failure = Failure(error_kind=ErrorKind.BUG, code="bug", message="m", traceback="Traceback…", evidence={"a": 1})
    assert error_of_failure(failure).evidence == {"a": 1, "traceback": "Traceback…"}
