"""The process that makes tokens visible, from the server's side: started on demand, kept warm, ended when idle.

The server must not import transformers. The process gets the scrubbed environment of agent processes, leads its own group,
and is killed when it does not answer in time. One answers everybody, one request at a time.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, Timer

from celery_workers.contract.errors import InfrastructureError
from celery_workers.contract.messages import FrameDecoder, send
from celery_workers.contract.tokens import FromTokenProcess, Load, Loaded, Look, Ready, Refused, Seen, from_token_process
from pipelines.engine.children import ROOT, child_environment

logger = logging.getLogger(__name__)

IDLE_SECONDS = 60.0
START_SECONDS = 60.0
LOAD_SECONDS = 180  # a bundled model is converted on first use, about 20 s on an idle machine
LOOK_SECONDS = 20
TURN_SECONDS = 30.0
ALARM_AFTER_SECONDS = 10
"""By how much the process outlives a deadline by itself, should this server be gone and not kill it."""


@dataclass(frozen=True)
class _Running:
    process: subprocess.Popen[bytes]
    connection: socket.socket

    def end(self) -> None:
        """Kill the process and what it started, and wait for it."""
        self.connection.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class TokenChild:
    """Keeps at most one process. Safe to use from several threads, which wait for their turn."""

    def __init__(self, *, idle_seconds: float = IDLE_SECONDS, look_seconds: int = LOOK_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._look_seconds = look_seconds
        self._lock = Lock()
        self._running: _Running | None = None
        self._timer: Timer | None = None
        atexit.register(self.close)

    @property
    def pid(self) -> int | None:
        """The process's id while there is one."""
        running = self._running
        return running.process.pid if running else None

    def look(self, *, load: Load, look: Look) -> Seen | Refused:
        """Return the answer to ``look`` once the tokenizer of ``load`` is there.

        Raises: InfrastructureError: the process cannot be started, ends, or takes too long; or others keep it busy.
        """
        with self._turn():
            answer = self._ask(load, seconds=LOAD_SECONDS)
            if isinstance(answer, Loaded) and answer.is_spent:
                self._end()
                answer = self._ask(load, seconds=LOAD_SECONDS)
            if isinstance(answer, Loaded):
                answer = self._ask(look, seconds=self._look_seconds)
        if not isinstance(answer, Seen | Refused):
            raise InfrastructureError(f"the token process answered {answer.type}", code="token_process_failed")
        return answer

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=TURN_SECONDS):
            message = f"other rows are being looked at, and no turn came within {TURN_SECONDS:.0f} s; try again"
            raise InfrastructureError(message, code="token_process_busy")
        try:
            yield
        finally:
            self._end_later()
            self._lock.release()

    def _ask(self, message: Load | Look, *, seconds: float) -> FromTokenProcess:
        running = self._started()
        try:
            send(running.connection, message.model_copy(update={"alarm_seconds": int(seconds) + ALARM_AFTER_SECONDS}))
            return _receive(running.connection, seconds=seconds)
        except TimeoutError as error:
            self._end()
            text = f"the tokens were not made within {seconds:.0f} s; the file may be very large or the template endless"
            raise InfrastructureError(text, code="token_process_too_slow") from error
        except (OSError, ValueError) as error:
            self._end()
            status = running.process.returncode
            raise InfrastructureError(f"the token process ended (status {status})", code="token_process_failed") from error

    def _started(self) -> _Running:
        if self._running is not None and self._running.process.poll() is None:
            return self._running
        self._end()
        self._running = _start()
        try:
            first = _receive(self._running.connection, seconds=START_SECONDS)
        except (OSError, ValueError) as error:
            self._end()
            raise InfrastructureError("the token process did not start", code="token_process_failed") from error
        if not isinstance(first, Ready):
            raise InfrastructureError(f"the token process began with {first.type}", code="token_process_failed")
        return self._running

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._running is not None:
            self._running.end()
        self._running = self._timer = None

    def _end_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._running is not None:
            self._timer = Timer(self._idle_seconds, self._end_if_idle)
            self._timer.daemon = True
            self._timer.start()

    def _end_if_idle(self) -> None:
        if self._lock.acquire(blocking=False):  # else it is in use, and its user sets the next timer
            try:
                self._end()
            finally:
                self._lock.release()


def _start() -> _Running:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "celery_workers.token_process", "--socket-fd", str(theirs.fileno())]
    environment = child_environment(os.environ, device="cpu")
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            cwd=ROOT,
            env=environment | {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"},
        )
    except OSError as error:
        ours.close()
        raise InfrastructureError(f"no process can be started: {error}", code="token_process_failed") from error
    finally:
        theirs.close()
    logger.info("tokens.process_started", extra={"pid": process.pid})
    return _Running(process, ours)


def _receive(connection: socket.socket, *, seconds: float) -> FromTokenProcess:
    """Read one message.

    Raises: TimeoutError. OSError, ValueError: the process is gone, or what it says is none of the messages.
    """
    deadline, decoder = time.monotonic() + seconds, FrameDecoder()
    while (payload := decoder.next_frame()) is None:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        chunk = connection.recv(decoder.missing_bytes)
        if not chunk:
            raise ConnectionError("the process closed its socket")
        decoder.feed(chunk)
    connection.settimeout(None)
    return from_token_process.validate_json(payload)
