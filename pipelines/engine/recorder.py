"""Write down what a child says: batches of events, progress, checkpoints; every write carries the attempt's fence.

The supervisor calls the recorder in one thread and calls ``on_idle`` while the child is quiet, so a batch waits 100 ms at
most. When the database is away, the recorder waits for it: the supervisor then holds a bounded backlog and stops reading
the child, so memory stays bounded, no line is lost, and orders still reach the child from the supervisor's other thread.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from celery_workers.contract.messages import Checkpoint, Log, Metric, Progress
from pipelines import events
from pipelines.engine.checkpoints import keep_checkpoint
from pipelines.engine.database import give_back_connection, with_outages_survived
from pipelines.engine.jsonb import storable_object
from pipelines.engine.supervisor import Orders
from pipelines.events import EventLine, Fence
from pipelines.models import NodeRun

logger = logging.getLogger(__name__)

BATCH_SECONDS = 0.1
BATCH_LINES = 256
PROGRESS_SECONDS = 0.5

T = TypeVar("T")


class Recorder:
    """The listener of one attempt."""

    def __init__(self, node_run: NodeRun, *, fence: Fence, orders: Orders) -> None:
        self.fence = fence
        self._node_run = node_run
        self._orders = orders
        self._lines: list[EventLine] = []
        self._oldest_at = 0.0
        self._metrics: dict[str, object] = dict(node_run.metrics)
        self._changed: dict[str, object] = {}
        self._progress_at = 0.0

    def on_log(self, message: Log) -> None:
        """Take a log line."""
        self.add(
            EventLine(
                type="log",
                node=self._node_run.node,
                attempt=self._node_run.attempt,
                agent=self._node_run.agent,
                level=message.level,
                message=message.message,
                timestamp=_instant(message.timestamp),
                data=message.data,
            )
        )

    def on_metric(self, message: Metric) -> None:
        """Take the numbers of one step."""
        self.add(
            EventLine(
                type="metric",
                node=self._node_run.node,
                attempt=self._node_run.attempt,
                agent=self._node_run.agent,
                level="METRIC",
                message=message.message,
                timestamp=_instant(message.timestamp),
                step=message.step,
                epoch=message.epoch,
                loss=message.loss,
                data=dict(message.data),
            )
        )
        loss = {} if message.loss is None else {"loss": message.loss}
        self._metrics = storable_object({**self._metrics, **loss, **message.data})
        self._changed |= {"metrics": self._metrics, "step": message.step}

    def on_progress(self, message: Progress) -> None:
        """Take how far the node is."""
        self._changed["fraction"] = message.fraction
        if message.step is not None:
            self._changed["step"] = message.step
        if message.total_steps is not None:
            self._changed["total_steps"] = message.total_steps
        self._flush_if_due()

    def on_checkpoint(self, message: Checkpoint) -> None:
        """Store and record a checkpoint; returns when it is safe.

        Raises: StorageFull, Unavailable, InvalidFile: it could not be stored.
        """
        self.flush()
        path = Path(message.path)
        store = functools.partial(keep_checkpoint, self._node_run, path, step=message.step, keep=message.keep, fence=self.fence)
        if not self._survive(store):
            self._give_up()
        give_back_connection()

    def on_idle(self) -> None:
        """Write what was gathered."""
        self._flush_if_due()

    def add(self, line: EventLine) -> None:
        """Take a line of the engine's own, in order with the child's."""
        if not self._lines:
            self._oldest_at = time.monotonic()
        self._lines.append(line)
        self._flush_if_due()

    def flush(self) -> None:
        """Write everything now.

        Raises: OperationalError: the database stayed away, or nobody wants the lines any more.
        """
        while self._lines:
            batch = self._lines[:BATCH_LINES]
            append = functools.partial(events.append, self._node_run.run_id, batch, fence=self.fence)
            if self._survive(append) is None:
                self._give_up()
                return
            del self._lines[: len(batch)]
        self._write_progress()

    def _flush_if_due(self) -> None:
        now = time.monotonic()
        if self._lines and (len(self._lines) >= BATCH_LINES or now - self._oldest_at >= BATCH_SECONDS):
            self.flush()
        elif self._changed and now - self._progress_at >= PROGRESS_SECONDS:
            self._write_progress()
        else:
            return
        give_back_connection()

    def _write_progress(self) -> None:
        if not self._changed or self._orders.is_abandoned:
            return
        held = NodeRun.objects.fenced(node_run_id=self.fence.node_run_id, attempt=self.fence.attempt, worker=self.fence.worker)
        if not self._survive(lambda: held.update(**self._changed)):
            self._give_up()
        self._changed = {}
        self._progress_at = time.monotonic()

    def _survive(self, write: Callable[[], T]) -> T:
        return with_outages_survived(write, is_pointless=lambda: self._orders.is_abandoned or self._orders.is_shut_down)

    def _give_up(self) -> None:
        """The fence is lost: another attempt has the node, so nothing of this one may be written."""
        logger.warning("recorder.fence_lost %s attempt %s", self.fence.node_run_id, self.fence.attempt)
        self._lines.clear()
        self._changed.clear()
        self._orders.abandon()


def _instant(timestamp: float) -> datetime:
    try:
        return datetime.fromtimestamp(timestamp, UTC)
    except (OverflowError, OSError, ValueError):  # a child's clock, or its word for it, may be anything
        return datetime.now(UTC)
