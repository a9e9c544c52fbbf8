"""Whether the platform is alive, and whether all of its parts can be reached."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable

import redis
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from celery_workers.contract.agent import Queue
from pipelines.models import Worker

TIMEOUT_SECONDS = 2.0
STORE_CHECK_SECONDS = 10.0  # anybody may ask; at most this often does the answer cost a write

logger = logging.getLogger(__name__)


class NotReadyError(Exception):
    """A part does not work; the message may be shown to anybody."""


@never_cache
@require_safe
def health(_request: HttpRequest) -> JsonResponse:
    """Answer that the process is alive."""
    return JsonResponse({"status": "alive"})


@never_cache
@require_safe
def ready(_request: HttpRequest) -> JsonResponse:
    """Answer 200 if every part works, else 503 and which do not."""
    checks = {name: _outcome(name, check) for name, check in CHECKS.items()}
    is_ready = all(outcome == "ok" for outcome in checks.values())
    return JsonResponse({"status": "ready" if is_ready else "unavailable", "checks": checks}, status=200 if is_ready else 503)


def check_database() -> None:
    """Ask PostgreSQL for a row."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def check_redis() -> None:
    """Ping Redis."""
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
    ) as client:
        client.ping()


class StoreCheck:
    """Write, read and delete a small file, and remember for some seconds that it went well."""

    def __init__(self) -> None:
        self._good_until = 0.0

    def __call__(self) -> None:
        """Raises: NotReadyError: the file read is not the file written; or what the store raised."""
        if time.monotonic() < self._good_until:
            return
        content = uuid.uuid4().bytes
        name = default_storage.save(f"health/{uuid.uuid4()}", ContentFile(content))
        try:
            with default_storage.open(name) as file:
                if file.read() != content:
                    raise NotReadyError("the store returned another file than was written")
        finally:
            default_storage.delete(name)
        self._good_until = time.monotonic() + STORE_CHECK_SECONDS


def check_workers() -> None:
    """Look for a live worker of each queue.

    Raises: NotReadyError: it names the queues that nobody serves.
    """
    served = set(Worker.objects.alive().values_list("queue", flat=True))
    unserved = [queue.value for queue in Queue if queue.value not in served]
    if unserved:
        raise NotReadyError(f"no live worker for: {', '.join(unserved)}")


CHECKS: dict[str, Callable[[], None]] = {
    "database": check_database,
    "redis": check_redis,
    "store": StoreCheck(),
    "workers": check_workers,
}


def _outcome(name: str, check: Callable[[], None]) -> str:
    try:
        check()
    except NotReadyError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises means that the part cannot be used
        logger.warning("ready.%s: %s: %s", name, type(error).__name__, error)
        return f"cannot be reached ({type(error).__name__})"
    return "ok"
