"""Drive ``supervise`` with real children in the tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from celery_workers.contract.messages import Checkpoint, Failure, Log, Metric, Progress, Request, Result
from pipelines.engine.children import Child, ChildPool
from pipelines.engine.supervisor import Orders, supervise


class Recording:
    """A listener that keeps what it hears; ``on_first_log`` runs when the agent says its first word."""

    def __init__(self, *, on_first_log: Callable[[], object] | None = None) -> None:
        self.logs: list[Log] = []
        self.metrics: list[Metric] = []
        self.fractions: list[float] = []
        self.steps: list[int] = []
        self.idle = 0
        self.threads: set[int] = set()
        self._on_first_log = on_first_log

    @property
    def lines(self) -> list[str]:
        """The texts of all logs."""
        return [log.message for log in self.logs]

    def on_log(self, message: Log) -> None:
        self.threads.add(threading.get_ident())
        self.logs.append(message)
        if self._on_first_log is not None and "stream" not in message.data:
            act, self._on_first_log = self._on_first_log, None
            act()

    def on_metric(self, message: Metric) -> None:
        self.metrics.append(message)

    def on_progress(self, message: Progress) -> None:
        self.fractions.append(message.fraction)

    def on_checkpoint(self, message: Checkpoint) -> None:
        self.steps.append(message.step)

    def on_idle(self) -> None:
        self.idle += 1


class Stage:
    """Runs acts of ``ActingAgent`` under supervision."""

    def __init__(self, pool: ChildPool, workdir: Path) -> None:
        self.pool = pool
        self.workdir = workdir
        self.orders = Orders()
        self.child: Child | None = None

    def request(self, act: str, *, count: int = 1, **fields: object) -> Request:
        values: dict[str, object] = {
            "run_id": "run",
            "node": "acting",
            "attempt": 1,
            "agent": "ActingAgent",
            "config": {"act": act, "count": count},
            "inputs": {},
            "references": {},
            "workdir": str(self.workdir),
            "seed": 7,
            "threads": 1,
        }
        return Request.model_validate(values | fields)

    def play(
        self, act: str, listener: Recording | None = None, *, grace_seconds: float = 5, count: int = 1, **fields: object
    ) -> Result | Failure:
        with closing(self.pool.take()) as self.child:
            answer = supervise(
                self.request(act, count=count, **fields),
                child=self.child,
                listener=listener or Recording(),
                orders=self.orders,
                cancel_grace_seconds=grace_seconds,
            )
            assert self.child.group_is_gone()
            return answer
