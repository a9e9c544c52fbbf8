"""The agent process's end of the socket: one thread reads orders, one writes what the agent says."""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable
from itertools import pairwise

from celery_workers.contract.errors import ErrorKind
from celery_workers.contract.messages import (
    Cancel,
    Failure,
    Log,
    Message,
    Progress,
    Ready,
    Request,
    Result,
    Shutdown,
    Stored,
    encode,
    receive,
    to_child,
)

OUTGOING_LIMIT = 4096  # messages; beyond it the agent waits, so that nothing is lost and memory stays bounded
BATCH_LIMIT = 256


class Link:
    """Keeps the agent's own thread from ever waiting for the socket, and hears orders while it computes.

    When the supervisor is gone, or speaks nonsense, the whole process group ends at once.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._outgoing: queue.Queue[Message] = queue.Queue(OUTGOING_LIMIT)
        self._stored_steps: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._is_canceled = False
        self._is_shut_down = False

    def start(self) -> None:
        """Start both threads."""
        threading.Thread(target=self._guarded, args=(self._read,), name="link-reader", daemon=True).start()
        threading.Thread(target=self._guarded, args=(self._write,), name="link-writer", daemon=True).start()

    @property
    def stop_code(self) -> str | None:
        """``canceled`` or ``shutdown`` once the agent was told to stop, else None. A cancel outweighs a shutdown."""
        if self._is_canceled:
            return "canceled"
        return "shutdown" if self._is_shut_down else None

    def stop_for_shutdown(self) -> None:
        """Have the agent save and stop. Safe in a signal handler: takes no lock."""
        self._is_shut_down = True

    def next_request(self) -> Request:
        """Wait for the request."""
        return self._requests.get()

    def send(self, message: Message) -> None:
        """Queue one message; waits only while ``OUTGOING_LIMIT`` of them are queued."""
        self._outgoing.put(message)

    def send_ready(self) -> None:
        """Say that this process is warm; returns when it is on its way, so that even an end right after it comes second."""
        self.send(Ready(pid=os.getpid()))
        self._outgoing.join()

    def send_and_wait_stored(self, message: Message, *, step: int) -> None:
        """Queue a checkpoint message, and wait until the supervisor has stored that step."""
        self.send(message)
        while self._stored_steps.get() != step:
            continue

    def send_final(self, message: Result | Failure) -> None:
        """Send everything queued and then the answer; returns when it is on its way."""
        try:
            encode(message)
        except ValueError as error:
            message = Failure(error_kind=ErrorKind.BUG, code="answer_too_long", message=str(error))
        self._outgoing.put(message)
        self._outgoing.join()

    def forward_logging(self) -> None:
        """Send records of Python's ``logging`` from WARNING up, and warnings, as log lines of the node."""
        root = logging.getLogger()
        root.handlers[:] = [_LinkHandler(self)]
        logging.captureWarnings(capture=True)

    def _guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        finally:
            os.killpg(os.getpgrp(), signal.SIGKILL)

    def _read(self) -> None:
        while (payload := receive(self._connection)) is not None:
            match to_child.validate_json(payload):
                case Request() as request:
                    self._requests.put(request)
                case Cancel():
                    self._is_canceled = True
                case Shutdown():
                    self._is_shut_down = True
                case Stored(step=step):
                    self._stored_steps.put(step)

    def _write(self) -> None:
        while True:
            batch = [self._outgoing.get()]
            while len(batch) < BATCH_LIMIT and not self._outgoing.empty():
                batch.append(self._outgoing.get())
            self._connection.sendall(b"".join(_encoded(message) for message in _newest_progress_only(batch)))
            for _ in batch:
                self._outgoing.task_done()


class _LinkHandler(logging.Handler):
    def __init__(self, link: Link) -> None:
        super().__init__(logging.WARNING)
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        level = "ERROR" if record.levelno >= logging.ERROR else "WARNING"
        line = Log(level=level, message=self.format(record), timestamp=time.time(), data={"logger": record.name})
        self._link.send(line)


def _newest_progress_only(batch: list[Message]) -> list[Message]:
    """Leave out a progress that the next message, a progress as well, makes old."""
    kept = [one for one, following in pairwise(batch) if not (isinstance(one, Progress) and isinstance(following, Progress))]
    return [*kept, batch[-1]]


def _encoded(message: Message) -> bytes:
    try:
        return encode(message)
    except ValueError as error:
        return encode(Log(level="ERROR", message=f"a {type(message).__name__} was left out: {error}", timestamp=time.time()))
