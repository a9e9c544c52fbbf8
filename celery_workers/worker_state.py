"""What a Celery worker process keeps between its tasks: slots, warm agent processes, its row, and the news of its end.

Works with the threads pool only: there the signals fire in the process that runs the tasks. A node's task learns of the
worker's end through its ``Slot.orders``, and its agent process learns of the worker's death from a pipe (see
``celery_workers.agent_process``), so neither needs anything here to be orderly.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from celery import Celery
from celery.signals import celeryd_after_setup, celeryd_init, worker_ready, worker_shutdown, worker_shutting_down
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection
from django.utils import timezone
from kombu import Exchange, Queue

from celery_workers import gpu
from celery_workers.device_profile import Profiler
from celery_workers.gpu import DeviceSlots
from celery_workers.queues import CONTROL, CONTROL_THREADS, IMPORT_QUEUE, IMPORT_THREADS, WORK_QUEUES, places_of, threads_of
from celery_workers.tracker import Tracker
from pipelines.engine.children import ChildPool, Warm
from pipelines.engine.supervisor import Orders, Slot
from pipelines.models import Worker

logger = logging.getLogger(__name__)

WARM: dict[str, Warm] = {"cpu": "light", "gpu": "torch"}


class WorkerState:
    """This process as the worker of one queue."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.name = f"{queue}@{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.places = places_of(queue)
        self.threads = threads_of(queue)
        self._slots = DeviceSlots(self.places)
        self._pools = {place: ChildPool(warm=WARM[queue], device=place) for place in self.places}
        self._running: set[Orders] = set()
        self._is_shutting_down = False
        self._started_at = timezone.now()
        self.profile: dict[str, object] = {}

    @contextmanager
    def slot(self) -> Iterator[Slot | None]:
        """Lend a slot for one node; None if all are taken, or the worker is going away."""
        with self._slots.lend() as place:
            if place is None or self._is_shutting_down:
                yield None
                return
            orders = Orders()
            self._running.add(orders)
            if self._is_shutting_down:  # the signal came in between
                orders.shutdown()
            try:
                yield Slot(worker_name=self.name, device=place, threads=self.threads, pool=self._pools[place], orders=orders)
            finally:
                self._running.discard(orders)

    @property
    def is_idle(self) -> bool:
        """Whether no node of it runs."""
        return not self._running

    def warm_up(self) -> None:
        """Have an agent process ready for each device."""
        for pool in self._pools.values():
            pool.warm_up()

    def shut_down(self) -> None:
        """Lend no more, and have every running node save and stop. Runs in a signal handler: takes no lock."""
        self._is_shutting_down = True
        for orders in list(self._running):
            orders.shutdown()

    def close(self) -> None:
        """End the warm agent processes."""
        for pool in self._pools.values():
            pool.close()

    def report(self) -> None:
        """Write the row that says this worker is alive until its lease time from now."""
        now = timezone.now()
        names = [device.name for device in gpu.devices()] if self.queue == "gpu" else []
        Worker.objects.update_or_create(
            name=self.name,
            defaults={
                "queue": self.queue,
                "slots": len(self.places),
                "devices": names,
                "profile": self.profile,
                "started_at": self._started_at,
                "last_seen_at": now,
                "expires_at": now + timedelta(seconds=settings.ENV.lease_seconds),
            },
        )

    def withdraw(self) -> None:
        """Remove the row."""
        Worker.objects.filter(name=self.name).delete()


class Heartbeat(threading.Thread):
    """Reports the process's workers every third of the lease time; removes their rows at the end."""

    def __init__(self, states: list[WorkerState]) -> None:
        super().__init__(name="worker-heartbeat", daemon=True)
        self._states = states
        self._ended = threading.Event()

    def run(self) -> None:
        """Report until ``end``."""
        while True:
            self._try_all("report")
            if self._ended.wait(settings.ENV.lease_seconds / 3):
                break
        self._try_all("withdraw")
        connection.close()

    def end(self) -> None:
        """Remove the rows and wait for that, a few seconds at most."""
        self._ended.set()
        self.join(timeout=5)

    def _try_all(self, action: str) -> None:
        close_old_connections()
        for state in self._states:
            try:
                state.report() if action == "report" else state.withdraw()
            except DatabaseError as error:
                logger.warning("The row of worker %s cannot be written: %s", state.name, error)
                connection.close()


class _Process:
    """The states of this process's queues, from the worker's start to its end."""

    def __init__(self) -> None:
        self.states: dict[str, WorkerState] = {}
        self.heartbeat: Heartbeat | None = None
        self.tracker: Tracker | None = None
        self.profiler: Profiler | None = None
        self.is_shutting_down = False


_process = _Process()


def state_of(queue: str) -> WorkerState | None:
    """Return this process's state for ``queue``; None if it does not serve it."""
    return _process.states.get(queue)


def is_shutting_down() -> bool:
    """Whether this process was told to end."""
    return _process.is_shutting_down


@celeryd_init.connect
def size_pool(conf: object, options: dict[str, object], **_: object) -> None:
    """Give the worker a thread per slot, and those for the reconciler and for imports, unless ``-c`` says otherwise."""
    named = options.get("queues") or []
    queues = named.split(",") if isinstance(named, str) else list(named)  # type: ignore[call-overload]
    slots = sum(len(places_of(queue)) for queue in queues if queue in WORK_QUEUES)
    imports = IMPORT_THREADS if IMPORT_QUEUE in queues else 0
    conf.worker_concurrency = slots + CONTROL_THREADS + imports  # type: ignore[attr-defined]


@celeryd_after_setup.connect
def start_states(instance: object, **_: object) -> None:
    """Make the states before the first message can arrive, and consume the control queue as well."""
    app: Celery = instance.app  # type: ignore[attr-defined]
    app.amqp.queues.select_add(Queue(CONTROL, Exchange(CONTROL), routing_key=CONTROL))
    _process.states = {queue: WorkerState(queue) for queue in app.amqp.queues.consume_from if queue in WORK_QUEUES}


@worker_ready.connect
def start_working(**_: object) -> None:
    """Report this worker and warm up. Work that waited for it is found at the reconciler's next tick, if no message is left."""
    states = list(_process.states.values())
    _process.heartbeat = Heartbeat(states)
    _process.heartbeat.start()
    for state in states:
        state.warm_up()
    _process.profiler = Profiler(states)
    _process.profiler.start()
    if settings.ENV.mlflow_tracking_uri and "cpu" in _process.states:
        _process.tracker = Tracker(settings.ENV.mlflow_tracking_uri)
        _process.tracker.start()


@worker_shutting_down.connect
def stop_nodes(**_: object) -> None:
    """Have every running node save and stop, so that Celery's wait for its tasks is short."""
    _process.is_shutting_down = True
    for state in _process.states.values():
        state.shut_down()
    if _process.tracker is not None:
        _process.tracker.end()


@worker_shutdown.connect
def stop_working(**_: object) -> None:
    """End the warm processes and remove the rows, after the last task."""
    if _process.profiler is not None:
        _process.profiler.end()
    for state in _process.states.values():
        state.close()
    if _process.heartbeat is not None:
        _process.heartbeat.end()
