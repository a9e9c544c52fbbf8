"""What a child has said and nobody has recorded yet."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class BacklogEnded(Exception):
    """Nothing is left, and nothing will come."""


class Backlog(Generic[T]):
    """A queue whose writer never waits: it asks ``is_full`` and stops reading its source instead."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether the writer should wait."""
        return len(self._items) >= self._limit

    def put(self, item: T) -> None:
        """Add an item, also when full."""
        with self._changed:
            self._items.append(item)
            self._changed.notify()

    def get(self, *, timeout_seconds: float) -> T | None:
        """Take the oldest item; None if there was none for ``timeout_seconds``.

        Raises: BacklogEnded: it is closed and empty.
        """
        with self._changed:
            if not self._items and not self._is_closed:
                self._changed.wait(timeout_seconds)
            if self._items:
                return self._items.popleft()
            if self._is_closed:
                raise BacklogEnded
            return None

    def close(self) -> None:
        """Say that nothing more will come."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
