"""How writers and readers reach the live stream of a run in Valkey."""

from __future__ import annotations

import functools
from uuid import UUID

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipelines.events.lines import StoredEvent

STREAM_MAX_EVENTS = 20_000
STREAM_LIFETIME_SECONDS = 86_400
BLOCK_SECONDS = 1.0


def stream_name(run_id: UUID) -> str:
    """Return the key of the run's stream."""
    return f"run:{run_id}:events"


@functools.cache
def writing_client() -> redis.Redis:
    """Return the writers' client, which gives up within half a second: a run must not wait for its watchers."""
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.4, socket_connect_timeout=0.2, retry=Retry(NoBackoff(), 0))


def reading_client() -> redis.asyncio.Redis:
    """Return a client for one event loop. Its timeout is longer than a blocking read (redis-py 8 would cut that at 5 s)."""
    return redis.asyncio.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=BLOCK_SECONDS + 2.0,
        socket_connect_timeout=0.5,
        retry=AsyncRetry(NoBackoff(), 0),
    )


def fields_of(event: StoredEvent) -> dict[str, str]:
    """Return the entry of ``event`` in the stream."""
    return {"type": event.type, "ends_run": "1" if event.ends_run else "", "event": event.text}


def event_of(entry_id: bytes, fields: dict[bytes, bytes]) -> StoredEvent:
    """Return the event of a stream's entry."""
    return StoredEvent(
        seq=int(entry_id.partition(b"-")[0]),
        type=fields[b"type"].decode(),
        text=fields[b"event"].decode(),
        ends_run=bool(fields[b"ends_run"]),
    )
