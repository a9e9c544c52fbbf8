"""Go on when the database was away for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection

logger = logging.getLogger(__name__)

OUTAGES = (OperationalError, InterfaceError)
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 3.0
GIVE_UP_SECONDS = 900.0

T = TypeVar("T")


def with_outages_survived(
    write: Callable[[], T], *, is_pointless: Callable[[], bool], give_up_seconds: float = GIVE_UP_SECONDS
) -> T:
    """Call ``write``, a whole transaction of its own, again and again until the database takes it.

    Raises: OperationalError, InterfaceError: ``is_pointless`` says that nobody wants it any more, or ``give_up_seconds``
        have passed, or a surrounding transaction is broken.
    """
    started, pause = time.monotonic(), FIRST_PAUSE_SECONDS
    while True:
        try:
            return write()
        except OUTAGES as error:
            if connection.in_atomic_block or is_pointless() or time.monotonic() - started > give_up_seconds:
                raise
            logger.warning("database.away, trying again in %.1f s: %s", pause, error)
            connection.close()
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def give_back_connection() -> None:
    """Return this thread's connection to the pool, if there is one and no transaction is open.

    An attempt lasts hours and has two threads: it must not hold two of the pool's few connections while it writes nothing.
    """
    connection.close_if_unusable_or_obsolete()
