"""How a worker's places and threads follow from the machine and the settings."""

from __future__ import annotations

import pytest

from celery_workers import gpu, queues
from celery_workers.gpu import Device
from celery_workers.queues import places_of, threads_of, usable_processors


@pytest.fixture
def _eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "usable_processors", lambda: 8)


@pytest.mark.usefixtures("_eight_processors")
def test_cpu_places_share_the_processors(settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"cpu_slots": 3})
    assert places_of("cpu") == ["cpu", "cpu", "cpu"]
    assert threads_of("cpu") == 2


@pytest.mark.usefixtures("_eight_processors")
def test_the_gpu_queue_runs_on_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "devices", lambda: ())
    assert (places_of("gpu"), threads_of("gpu")) == (["cpu"], 8)


@pytest.mark.usefixtures("_eight_processors")
def test_there_is_one_place_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "devices", lambda: (Device(id="GPU-1", name="A"), Device(id="GPU-2", name="B")))
    assert (places_of("gpu"), threads_of("gpu")) == (["GPU-1", "GPU-2"], 4)


def test_there_is_at_least_one_thread(settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"cpu_slots": 64})
    assert threads_of("cpu") >= 1
    assert usable_processors() >= 1
