from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from pipelines.engine.children import ChildPool
from pipelines.engine.supervisor import Orders, Slot


@pytest.fixture(scope="session")
def pool() -> Iterator[ChildPool]:
    """Real agent processes that know the test agents."""
    made = ChildPool(warm="light", registry="pipelines.tests.agents:specs")
    yield made
    made.close()


@pytest.fixture
def make_slot(pool: ChildPool) -> Callable[..., Slot]:
    """Make a worker's slot with orders of its own."""

    def make(worker_name: str = "worker-1", orders: Orders | None = None) -> Slot:
        return Slot(worker_name=worker_name, device="cpu", threads=1, pool=pool, orders=orders or Orders())

    return make


@pytest.fixture
def in_threads() -> Callable[[Sequence[Callable[[], object]]], list[object]]:
    """Run callables at the same instant, each in a thread with its own database connection."""

    def run(calls: Sequence[Callable[[], object]]) -> list[object]:
        barrier = threading.Barrier(len(calls))

        def call(function: Callable[[], object]) -> object:
            try:
                barrier.wait(10)
                return function()
            finally:
                connection.close()

        with ThreadPoolExecutor(len(calls)) as executor:
            return [future.result(60) for future in [executor.submit(call, function) for function in calls]]

    return run


@pytest.fixture(autouse=True)
def _quick_retries(settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"retry_base_seconds": 0.0, "cancel_grace_seconds": 5.0})
