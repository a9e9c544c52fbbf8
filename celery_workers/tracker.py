"""The thread of a cpu worker that keeps the tracking server up to date, beside all work and never in its way."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from django.db import Error as DatabaseError
from django.db import close_old_connections, connection

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
LOCK_KEY = 0x7475_6E65  # any number that nothing else locks

# The client's own patience is minutes: here every call is tried again anyway.
CLIENT_OPTIONS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Tracker(threading.Thread):
    """Calls ``pipelines.tracking`` every few seconds; rarer while the server is away. One per platform does it at a time."""

    def __init__(self, uri: str) -> None:
        super().__init__(name="tracker", daemon=True)
        self._uri = uri
        self._ended = threading.Event()
        self._is_away = False

    def run(self) -> None:
        """Follow until ``end``."""
        for name, value in CLIENT_OPTIONS.items():
            os.environ.setdefault(name, value)
        from mlflow.exceptions import MlflowException  # two seconds, and only where a server is set
        from mlflow.tracking import MlflowClient

        from pipelines.tracking.follow import follow, without_password

        client, pause = MlflowClient(self._uri), INTERVAL_SECONDS
        while not self._ended.wait(pause):
            close_old_connections()
            try:
                self._alone(lambda: follow(client))
            except MlflowException as error:
                pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)
                self._note(is_away=True, detail=without_password(str(error)))
            except DatabaseError as error:
                logger.warning("The trainings cannot be read for MLflow: %s", error)
                connection.close()
            except Exception:
                # A bug here must not end the thread in silence: the next look tries again, and the log has it.
                logger.exception("Following the trainings for MLflow failed")
            else:
                pause = INTERVAL_SECONDS
                self._note(is_away=False, detail="")
        connection.close()

    def end(self) -> None:
        """Stop after the call under way; it goes on where it was at the next start."""
        self._ended.set()

    def _alone(self, act: Callable[[], int]) -> None:
        """Call ``act`` unless another worker's tracker is at it; the database frees the lock of one that dies."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_KEY])
            if not cursor.fetchone()[0]:
                return
            try:
                act()
            finally:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK_KEY])

    def _note(self, *, is_away: bool, detail: str) -> None:
        was_away, self._is_away = self._is_away, is_away
        if is_away and not was_away:
            logger.warning("MLflow cannot be reached; trainings go on, and it is told later: %s", detail)
        elif was_away and not is_away:
            logger.info("MLflow is reachable again")
