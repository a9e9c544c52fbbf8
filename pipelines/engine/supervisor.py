"""Supervise one agent process from its request to the end of its process group.

::

    orders = Orders()                       # cancel(), shutdown(), abandon() from any thread
    with closing(pool.take()) as child:
        answer = supervise(request, child=child, listener=listener, orders=orders, cancel_grace_seconds=20)

The listener is called in the calling thread only, so it may use that thread's database connection. A second thread speaks
with the child: it obeys orders and deadlines at once, however long the listener takes to store a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from celery_workers.contract.messages import Checkpoint, Failure, Log, Metric, Progress, Request, Result, Stored
from pipelines.engine.children import Child, ChildPool
from pipelines.engine.conversation import Conversation

IDLE_SECONDS = 0.1


class Orders:
    """What others want of a running node. Every method may be called from any thread, or from a signal handler."""

    def __init__(self) -> None:
        self.is_canceled = False
        self.is_shut_down = False
        self.is_abandoned = False
        self._wake: Callable[[], None] | None = None

    def cancel(self) -> None:
        """The user canceled: stop at the next check; killed after the grace period."""
        self.is_canceled = True
        self._notify()

    def shutdown(self) -> None:
        """The worker is going away: save and stop; killed after the grace period."""
        self.is_shut_down = True
        self._notify()

    def abandon(self) -> None:
        """The attempt is no longer this worker's: kill at once."""
        self.is_abandoned = True
        self._notify()

    def follow(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called after every order from now on, and once now if there was one."""
        self._wake = wake
        if self.is_canceled or self.is_shut_down or self.is_abandoned:
            wake()

    def _notify(self) -> None:
        if self._wake is not None:
            self._wake()


class Listener(Protocol):
    """Who records what a child says. An exception of any method ends the child and comes out of ``supervise``."""

    def on_log(self, message: Log) -> None:
        """Take a line of the agent, or one that the child printed (``data.stream`` is stdout or stderr)."""

    def on_metric(self, message: Metric) -> None:
        """Take the numbers of one step."""

    def on_progress(self, message: Progress) -> None:
        """Take how far the node is."""

    def on_checkpoint(self, message: Checkpoint) -> None:
        """Store a checkpoint; the child goes on when this returns."""

    def on_idle(self) -> None:
        """Nothing came for ``IDLE_SECONDS``: the time to write what was gathered. Called again and again while idle."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A worker's place for one node: who claims, on what it runs, and how the worker's shutdown reaches it."""

    worker_name: str
    device: str
    """``cpu``, or the UUID (or index) of the CUDA device lent to this node."""
    threads: int
    """Threads that the child's libraries may use."""
    pool: ChildPool
    orders: Orders = field(default_factory=Orders)
    """Registered with the worker: it gives ``shutdown`` here; the executor adds ``cancel`` and ``abandon``."""


def supervise(
    request: Request, *, child: Child, listener: Listener, orders: Orders, cancel_grace_seconds: float
) -> Result | Failure:
    """Run ``request`` in ``child`` and return its answer when nothing of its process group runs any more.

    A child that was told to stop and does not within ``cancel_grace_seconds`` gets SIGTERM, a second later SIGKILL, and
    the answer is a Failure without ``error_kind`` and with code ``canceled`` or ``shutdown``; after ``abandon`` it is
    ``abandoned``. How a child that just ended is judged stands at ``endings.describe_ending``; one that breaks the
    protocol, or names files outside its workdir, is a bug with code ``protocol``.
    """
    conversation = Conversation(request, child=child, orders=orders, cancel_grace_seconds=cancel_grace_seconds)
    orders.follow(conversation.wake)
    conversation.start()
    try:
        for message in conversation.messages(idle_seconds=IDLE_SECONDS):
            _hand_over(message, listener, conversation)
    except BaseException:
        conversation.abort()
        raise
    finally:
        conversation.join()
    return conversation.answer()


def _hand_over(message: Log | Metric | Progress | Checkpoint | None, listener: Listener, conversation: Conversation) -> None:
    match message:
        case Log():
            listener.on_log(message)
        case Metric():
            listener.on_metric(message)
        case Progress():
            listener.on_progress(message)
        case Checkpoint():
            listener.on_checkpoint(message)
            conversation.send(Stored(step=message.step))
        case None:
            listener.on_idle()
