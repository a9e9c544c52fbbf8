from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from pipelines.engine.claim import claim
from pipelines.engine.tests.driving import story
from pipelines.models import NodeRun, Run, Status
from pipelines.tests.factories import NodeRunFactory, RunFactory

pytestmark = pytest.mark.django_db(transaction=True)


def queued(run: Run, node: str = "n", *, age_seconds: float = 0, **fields: object) -> NodeRun:
    return NodeRunFactory(
        run=run,
        node=node,
        queue=fields.pop("queue", "cpu"),
        status=Status.QUEUED,
        lease_worker="",
        started_at=None,
        queued_at=timezone.now() - timedelta(seconds=age_seconds),
        **fields,
    )


def test_a_claim_writes_lease_statuses_and_events() -> None:
    run = RunFactory(status=Status.QUEUED, started_at=None)
    waiting = queued(run)
    claimed = claim("cpu", worker="w1", lease_seconds=30)
    assert claimed is not None
    assert claimed.pk == waiting.pk
    row = NodeRun.objects.get(pk=waiting.pk)
    assert (row.status, row.lease_worker) == (Status.RUNNING, "w1")
    assert timedelta(seconds=20) < row.lease_expires_at - timezone.now() < timedelta(seconds=31)
    run.refresh_from_db()
    assert run.status == Status.RUNNING
    assert run.started_at is not None
    assert story(run) == [("", "running"), ("n", "running")]


def test_the_oldest_of_the_highest_priority_comes_first() -> None:
    low, high = RunFactory(), RunFactory(priority=5)
    queued(low, "old", age_seconds=100)
    queued(high, "young", age_seconds=1)
    queued(high, "older", age_seconds=10)
    assert [claim("cpu", worker="w").node for _ in range(3)] == ["older", "young", "old"]


def test_an_owner_with_fewer_running_nodes_goes_before_one_who_waits_longer() -> None:
    busy, idle = RunFactory(), RunFactory()
    NodeRunFactory(run=busy, node="running")
    queued(busy, "old", age_seconds=100)
    queued(idle, "new")
    assert [claim("cpu", worker="w").node for _ in range(2)] == ["new", "old"]


def test_a_retry_waits_for_its_instant_and_other_queues_are_left() -> None:
    run = RunFactory()
    queued(run, "later", not_before=timezone.now() + timedelta(hours=1))
    queued(run, "gpu", queue="gpu")
    due = queued(run, "due", not_before=timezone.now() - timedelta(seconds=1))
    assert claim("cpu", worker="w").pk == due.pk
    assert claim("cpu", worker="w") is None


def test_many_claimers_never_get_the_same_node_and_leave_none(in_threads) -> None:
    runs = [RunFactory() for _ in range(3)]
    for number in range(24):
        queued(runs[number % 3], f"n{number}")

    def take_all(worker: str) -> list[object]:
        taken = []
        while node_run := claim("cpu", worker=worker):
            taken.append(node_run.pk)
        return taken

    taken = in_threads([lambda name=name: take_all(name) for name in ("a", "b", "c", "d")])
    everything = [pk for part in taken for pk in part]
    assert len(everything) == len(set(everything)) == 24
    assert not NodeRun.objects.filter(status=Status.QUEUED).exists()


def test_a_run_that_is_locked_for_a_moment_is_not_overlooked(in_threads) -> None:
    from django.db import transaction

    run = RunFactory()
    queued(run)

    def hold() -> None:
        import time

        with transaction.atomic():
            Run.objects.select_for_update().get(pk=run.pk)
            time.sleep(0.15)

    def take() -> NodeRun | None:
        import time

        time.sleep(0.05)
        return claim("cpu", worker="w")

    assert in_threads([hold, take])[1] is not None
