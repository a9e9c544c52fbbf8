"""The thread that speaks with one child: reads it, writes to it, sends the signals that are due, and ends its group."""

from __future__ import annotations

import logging
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from celery_workers.contract.messages import Failure, FrameDecoder, Message, Request, Result, encode
from pipelines.engine.backlog import Backlog, BacklogEnded
from pipelines.engine.captured import CapturedStream
from pipelines.engine.children import Child
from pipelines.engine.dialogue import Dialogue, OrderFlags, Said
from pipelines.engine.endings import Ending, describe_ending, oom_kills

logger = logging.getLogger(__name__)

BACKLOG_LIMIT = 4096  # messages; beyond it the child is not read until the listener has caught up
CHUNK_BYTES = 64 * 1024
POLL_SECONDS = 0.05  # between looks at whether the child has ended, where the system cannot tell by itself


class Conversation(threading.Thread):
    """Lives as long as the child's process group; ``messages``, ``send`` and ``answer`` are for the supervising thread."""

    def __init__(self, request: Request, *, child: Child, orders: OrderFlags, cancel_grace_seconds: float) -> None:
        super().__init__(name=f"conversation-{child.pid}", daemon=True)
        self._child = child
        self._orders = orders
        self._dialogue = Dialogue(workdir=Path(request.workdir), grace_seconds=cancel_grace_seconds, now=time.monotonic())
        self._outgoing = bytearray(encode(request))
        self._outgoing_lock = threading.Lock()
        self._decoder = FrameDecoder()
        self._backlog: Backlog[Said] = Backlog(limit=BACKLOG_LIMIT)
        self._streams = {child.stdout_fd: CapturedStream("stdout"), child.stderr_fd: CapturedStream("stderr")}
        self._stderr = self._streams[child.stderr_fd]
        self._open_fds = {child.connection.fileno(), *self._streams}
        self._oom_kills = oom_kills()
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._exit_fd: int | None = None
        self._has_exited = False
        self._is_aborted = False
        self._error: Exception | None = None

    def messages(self, *, idle_seconds: float) -> Iterator[Said | None]:
        """Yield what the child says until its group is gone; None whenever nothing came for ``idle_seconds``."""
        while True:
            was_full = self._backlog.is_full
            try:
                message = self._backlog.get(timeout_seconds=idle_seconds)
            except BacklogEnded:
                return
            if was_full:
                self.wake()
            yield message

    def send(self, message: Message) -> None:
        """Have ``message`` written to the child."""
        with self._outgoing_lock:
            self._outgoing += encode(message)
        self.wake()

    def wake(self) -> None:
        """Have orders and deadlines looked at now. Safe in a signal handler: takes no lock."""
        try:
            self._wake_writer.send(b"\0")
        except OSError:  # full, so that it will wake anyway; or closed, so that nothing is left to do
            return

    def abort(self) -> None:
        """Kill the child: what it says can no longer be recorded."""
        self._is_aborted = True
        self.wake()

    def answer(self) -> Result | Failure:
        """Return the child's answer, or say why there is none. Call after the thread has ended.

        Raises: Exception: what went wrong in this thread itself.
        """
        if self._error is not None:
            raise self._error
        return self._dialogue.verdict or describe_ending(self._ending())

    def run(self) -> None:
        """Converse until the child has ended; whatever happens, leave nothing of its group behind."""
        try:
            self._converse()
        except Exception as error:
            logger.exception("The conversation with agent process %d broke off", self._child.pid)
            self._error = error
        finally:
            self._child.kill_and_wait()
            self._selector.close()
            self._wake_reader.close()
            self._wake_writer.close()
            if self._exit_fd is not None:
                os.close(self._exit_fd)
            self._backlog.close()

    def _converse(self) -> None:
        for end in (self._child.connection, self._wake_reader, self._wake_writer):
            end.setblocking(False)
        for descriptor in self._streams:
            os.set_blocking(descriptor, False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, self._drain_wakes)
        self._watch_exit()
        while not self._has_exited:
            self._obey()
            self._choose_sources()
            for key, _ in self._selector.select(self._wait_seconds()):
                key.data()
            if self._exit_fd is None:
                self._has_exited = not self._child.is_alive()
        self._child.kill_and_wait()  # before the rest is read: what it left behind may go on printing
        self._read_rest()

    def _watch_exit(self) -> None:
        if sys.platform != "linux":
            return
        try:
            self._exit_fd = os.pidfd_open(self._child.pid)
        except ProcessLookupError:
            self._has_exited = True
        except OSError:  # before Linux 5.3, or forbidden by a sandbox: look now and then
            return
        else:
            self._selector.register(self._exit_fd, selectors.EVENT_READ, self._note_exit)

    def _note_exit(self) -> None:
        self._has_exited = True

    def _drain_wakes(self) -> None:
        self._wake_reader.recv(CHUNK_BYTES)

    def _obey(self) -> None:
        if self._is_aborted:
            self._dialogue.abandon()
        messages = self._dialogue.obey(self._orders, now=time.monotonic())
        with self._outgoing_lock:
            for message in messages:
                self._outgoing += encode(message)
        due = self._dialogue.signal_due(now=time.monotonic())
        if due is not None:
            self._child.signal_group(due)

    def _wait_seconds(self) -> float | None:
        longest = POLL_SECONDS if self._exit_fd is None else float("inf")
        seconds = min(longest, max(0.0, self._dialogue.next_deadline - time.monotonic()))
        return None if seconds == float("inf") else seconds

    def _choose_sources(self) -> None:
        reads = 0 if self._backlog.is_full else selectors.EVENT_READ
        writes = selectors.EVENT_WRITE if self._outgoing else 0
        connection = self._child.connection.fileno()
        self._listen(connection, reads | writes, self._exchange)
        for descriptor in self._streams:
            self._listen(descriptor, reads, partial(self._read_pipe, descriptor))

    def _listen(self, descriptor: int, events: int, handler: Callable[[], object]) -> None:
        known = self._selector.get_map().get(descriptor)
        if descriptor not in self._open_fds:
            events = 0
        if known is None and events:
            self._selector.register(descriptor, events, handler)
        elif known is not None and not events:
            self._selector.unregister(descriptor)
        elif known is not None and known.events != events:
            self._selector.modify(descriptor, events, handler)

    def _exchange(self) -> None:
        with self._outgoing_lock:
            if self._outgoing:
                try:
                    del self._outgoing[: self._child.connection.send(self._outgoing)]
                except BlockingIOError:
                    pass
                except OSError:  # it closed its end, which reading will show
                    self._outgoing.clear()
        if not self._backlog.is_full:
            self._read_socket()

    def _read_socket(self) -> bool:
        """Take what the socket holds; return whether there may be more."""
        chunk = self._read(self._child.connection.fileno(), lambda: self._child.connection.recv(CHUNK_BYTES))
        if chunk is None:
            return False
        if not chunk:
            self._dialogue.note_socket_ended(now=time.monotonic())
            return False
        self._decoder.feed(chunk)
        try:
            while (payload := self._decoder.next_frame()) is not None:
                said = self._dialogue.hear(payload, now=time.monotonic())
                if said is not None:
                    self._backlog.put(said)
        except ValueError as error:
            self._dialogue.break_off(str(error))
            self._open_fds.discard(self._child.connection.fileno())
            return False
        return True

    def _read_pipe(self, descriptor: int) -> bool:
        chunk = self._read(descriptor, lambda: os.read(descriptor, CHUNK_BYTES))
        if not chunk:
            return False
        for line in self._streams[descriptor].feed(chunk):
            self._backlog.put(line)
        return True

    def _read(self, descriptor: int, read: Callable[[], bytes]) -> bytes | None:
        """Return what can be read now, None if nothing can, and empty at the end of file, which closes the source."""
        if descriptor not in self._open_fds:
            return None
        try:
            chunk = read()
        except BlockingIOError:
            return None
        except ConnectionError:
            chunk = b""
        if not chunk:
            self._open_fds.discard(descriptor)
        return chunk

    def _read_rest(self) -> None:
        """Take what was on its way when the child ended; it is no more than the kernel's buffers hold."""
        while self._read_socket():
            continue
        for descriptor, stream in self._streams.items():
            while self._read_pipe(descriptor):
                continue
            for line in stream.finish():
                self._backlog.put(line)

    def _ending(self) -> Ending:
        status = self._child.process.wait()
        return Ending(
            exit_status=status,
            was_ready=self._dialogue.is_ready,
            oom_kills_before=self._oom_kills,
            oom_kills_after=oom_kills(),
            stderr_tail=list(self._stderr.tail),
        )
