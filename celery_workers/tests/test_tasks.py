"""Waking workers costs a request nothing, broker or not."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from kombu import pools

from celery_workers import tasks, worker_state
from celery_workers.queues import WAITING_LIMIT
from celery_workers.tasks import execute_next, wake
from celery_workers.tests.broker import Broker
from platform_site.celery import app


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    broker.start()
    monkeypatch.setattr(app.conf, "broker_write_url", broker.url)
    monkeypatch.setattr(tasks, "_sender", tasks._Sender())
    yield broker
    broker.stop()
    pools.reset()


def waiting(broker: Broker, queue: str) -> int:
    return int(redis.Redis(port=broker.port).llen(queue))  # type: ignore[arg-type]


def test_each_queue_gets_one_message(broker: Broker) -> None:
    wake(["gpu", "cpu", "gpu"])
    assert (waiting(broker, "cpu"), waiting(broker, "gpu")) == (1, 1)


def test_a_queue_that_nobody_empties_does_not_grow_without_end(broker: Broker) -> None:
    for _ in range(WAITING_LIMIT + 20):
        wake(["cpu"])
    assert waiting(broker, "cpu") == WAITING_LIMIT


@pytest.mark.parametrize("outage", ["stop", "freeze"])
def test_a_broker_that_is_away_is_a_warning_and_takes_less_than_a_second(
    broker: Broker, outage: str, caplog: pytest.LogCaptureFixture
) -> None:
    wake(["cpu"])
    getattr(broker, outage)()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            started = time.monotonic()
            wake(["cpu", "gpu"])
            assert time.monotonic() - started < 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    if outage == "freeze":
        broker.thaw()
    else:
        broker.start()
    wake(["gpu"])
    assert waiting(broker, "gpu") >= 1


def test_a_message_for_another_queue_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    assert worker_state.state_of("gpu") is None
    execute_next("gpu")
    assert "does not serve it" in caplog.text
