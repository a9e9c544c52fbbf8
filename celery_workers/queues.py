"""The queues, how many nodes of each a worker runs at once, and with how many threads each."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import cast

from django.conf import settings
from kombu import Producer
from kombu.exceptions import ChannelError, OperationalError
from kombu.transport.virtual import Channel
from redis.exceptions import RedisError

from celery_workers import gpu
from celery_workers.contract.agent import Queue

WORK_QUEUES = tuple(queue.value for queue in Queue)
CONTROL = "control"
"""Carries the reconciler's tick. Every worker consumes it beside its own queue, whatever ``-Q`` says."""

CONTROL_THREADS = 1
"""Threads of a worker beyond its slots, so that the reconciler runs while every slot is taken."""

IMPORT_QUEUE = Queue.CPU.value
IMPORT_THREADS = 1
"""Threads of a worker of that queue beyond its slots: an import waits for a network, and must not keep a node waiting."""

WAITING_LIMIT = 32
"""Messages in a queue beyond which another changes nothing: each makes a worker look for all the work there is."""


BROKER_ERRORS = (OperationalError, RedisError, OSError)
"""What a broker that is away raises, by how far a command got."""


def places_of(queue: str) -> list[str]:
    """Return the places of this machine's worker for ``queue``: one per GPU, or on the CPU."""
    if queue == Queue.GPU:
        return [device.id for device in gpu.devices()] or [gpu.CPU]
    return [gpu.CPU] * settings.ENV.cpu_slots


def threads_of(queue: str) -> int:
    """Return how many threads one node of ``queue`` may use; the machine's processors are shared among its places."""
    return max(1, usable_processors() // len(places_of(queue)))


def usable_processors() -> int:
    """Return how many processors this process may keep busy: its affinity, and its control group's quota."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        count = os.cpu_count() or 1
    quota = _quota()
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def waiting_messages(producer: Producer, queue: str) -> int:
    """Return how many messages wait in ``queue``.

    Raises: BROKER_ERRORS: it cannot be asked.
    """
    try:
        channel = cast("Channel", producer.channel)
        return int(channel.queue_declare(queue, passive=True).message_count)
    except ChannelError:  # an empty Redis list does not exist
        return 0


def _quota() -> float | None:
    root = Path("/sys/fs/cgroup")
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (root / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii").strip() for name in ("quota", "period")
            )
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # no control groups, or "max"
        return None
