"""Keep an attempt's lease while its child works, and hear of a cancel or a loss."""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta
from types import TracebackType
from typing import Self

from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from pipelines.engine.database import OUTAGES, give_back_connection
from pipelines.engine.supervisor import Orders
from pipelines.events import Fence
from pipelines.models import NodeRun, Status

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0


class LeaseKeeper:
    """Renews a lease from a thread of its own, every quarter of its length, and looks at the status every second.

    A busy training loop, or a recorder that waits for the store, cannot lose the lease this way. When the database is
    away it goes on trying: the fence decides, once the database is back, whether the attempt is still this worker's.
    """

    def __init__(self, fence: Fence, *, orders: Orders, lease_seconds: float | None = None) -> None:
        self._fence = fence
        self._orders = orders
        self._lease = timedelta(seconds=lease_seconds or settings.ENV.lease_seconds)
        self._renew_at = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{fence.node_run_id}", daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Stop the thread; the lease is left as it is."""
        self._stop.set()
        self._thread.join()

    def _keep(self) -> None:
        poll_seconds = min(POLL_SECONDS, self._lease.total_seconds() / 4)
        try:
            while self._look():
                give_back_connection()
                if self._stop.wait(poll_seconds):
                    break
        finally:
            connection.close()

    def _look(self) -> bool:
        """Renew if it is time, obey the status, and say whether to look again."""
        held = NodeRun.objects.fenced(
            node_run_id=self._fence.node_run_id, attempt=self._fence.attempt, worker=self._fence.worker
        )
        try:
            if time.monotonic() >= self._renew_at and held.update(lease_expires_at=Now() + self._lease):
                self._renew_at = time.monotonic() + self._lease.total_seconds() / 4
            status = held.values_list("status", flat=True).first()
        except OUTAGES as error:
            logger.warning("lease.not_renewed %s: %s", self._fence.node_run_id, error)
            connection.close()
            return True
        if status is None:
            logger.warning("lease.lost %s attempt %s", self._fence.node_run_id, self._fence.attempt)
            self._orders.abandon()
            return False
        if status == Status.CANCELING and not self._orders.is_canceled:
            self._orders.cancel()
        return True
