"""The three Celery tasks, and the one way to send two of them. Messages only wake workers: the database is the truth."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence

from celery import Task
from kombu.pools import producers

from celery_workers import worker_state
from celery_workers.queues import BROKER_ERRORS, CONTROL, IMPORT_QUEUE, WAITING_LIMIT, waiting_messages
from datasets_app import import_work
from datasets_app.models import DatasetImport
from pipelines.engine import executor
from pipelines.engine import reconcile as reconciler
from platform_site.celery import app

logger = logging.getLogger(__name__)

# A publish is two commands. A request must not hang on a broker that is away: the reconciler sends again anyway.
WAKE_OPTIONS = {"socket_timeout": 0.4, "socket_connect_timeout": 0.4, "max_retries": 0}
_importing = threading.Lock()


@app.task(name="pipelines.execute_next")
def execute_next(queue: str) -> None:
    """Run waiting nodes of ``queue`` until none is left, or no slot of this worker is free."""
    state = worker_state.state_of(queue)
    if state is None:
        logger.warning("A message for queue %s reached a worker that does not serve it", queue)
        return
    while True:
        with state.slot() as slot:
            if slot is None:
                return
            executed = executor.execute_next(queue=queue, slot=slot)
        if executed is None:
            return
        wake(executed.queues)


@app.task(name="datasets.import_next")
def import_next() -> None:
    """Bring waiting imports one after the other until none is left; at most one at once in this worker."""
    if not _importing.acquire(blocking=False):
        return
    try:
        while not worker_state.is_shutting_down() and import_work.import_next(is_stopping=worker_state.is_shutting_down):
            pass
    finally:
        _importing.release()


@app.task(name="pipelines.reconcile", queue=CONTROL)
def reconcile() -> None:
    """Take back what lost its lease, and wake the queues where work waits."""
    wake(reconciler.reconcile())
    import_work.sweep_folders()
    if DatasetImport.objects.due().exists():
        wake_imports()


def wake(queues: Iterable[str]) -> None:
    """Tell the workers of ``queues`` that there is work. Never raises, and takes less than a second, broker or not."""
    _sender.send([(execute_next, queue, (queue,)) for queue in sorted(set(queues))])


def wake_imports() -> None:
    """Tell a worker that an import waits. Never raises, and takes less than a second, broker or not."""
    _sender.send([(import_next, IMPORT_QUEUE, ())])


class _Sender:
    """Sends wake-ups over a connection that gives up quickly; says once when the broker goes away, and once when it is back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_away = False

    def send(self, messages: Sequence[tuple[Task, str, tuple[str, ...]]]) -> None:
        try:
            with producers[app.connection_for_write(transport_options=WAKE_OPTIONS)].acquire(block=True, timeout=1) as producer:
                for task, queue, arguments in messages:
                    if waiting_messages(producer, queue) < WAITING_LIMIT:
                        task.apply_async(arguments, queue=queue, producer=producer, retry=False)
        except BROKER_ERRORS as error:
            self._note(is_away=True, detail=str(error))
        else:
            self._note(is_away=False, detail="")

    def _note(self, *, is_away: bool, detail: str) -> None:
        with self._lock:
            was_away, self._is_away = self._is_away, is_away
        if is_away and not was_away:
            logger.warning("The broker cannot be reached, so the reconciler will wake the workers later: %s", detail)
        elif was_away and not is_away:
            logger.info("The broker is reachable again")


_sender = _Sender()
