"""A beat that keeps nothing on disk and never fills a queue that nobody empties."""

from __future__ import annotations

import logging

from celery.beat import ScheduleEntry, Scheduler, SchedulingError
from kombu import Producer

from celery_workers.queues import BROKER_ERRORS, CONTROL, WAITING_LIMIT, waiting_messages

logger = logging.getLogger(__name__)


class SparingScheduler(Scheduler):
    """Sends an entry only while few messages wait in ``CONTROL``, where every entry goes.

    Messages of a tick expire, but Redis keeps them until a worker takes and drops them: a week without workers would
    leave 200,000. The schedule is made of intervals only, so there is nothing to remember between two starts.
    """

    _is_broker_away = False

    def apply_async(
        self, entry: ScheduleEntry, producer: Producer | None = None, advance: bool = True, **options: object
    ) -> object:
        """Send ``entry``, or leave it to the next tick when enough messages wait or the broker is away."""
        try:
            if waiting_messages(self.producer, CONTROL) >= WAITING_LIMIT:
                return None
            sent = super().apply_async(entry, producer=producer, advance=advance, retry=False, **options)
        except (*BROKER_ERRORS, SchedulingError) as error:
            if not self._is_broker_away:
                logger.warning("The broker cannot be reached, so no tick is sent: %s", error)
            self._is_broker_away = True
            return None
        if self._is_broker_away:
            logger.info("The broker is reachable again")
        self._is_broker_away = False
        return sent
