from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

import pytest
from django.utils import timezone

from pipelines.engine.leases import LeaseKeeper
from pipelines.engine.supervisor import Orders
from pipelines.engine.tests.driving import drop_other_connections, fence_of
from pipelines.models import NodeRun, Status
from pipelines.tests.factories import NodeRunFactory

pytestmark = pytest.mark.django_db(transaction=True)


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def lease_of(node_run: NodeRun) -> datetime:
    return NodeRun.objects.values_list("lease_expires_at", flat=True).get(pk=node_run.pk)


def wait_for_renewal(node_run: NodeRun) -> None:
    before = lease_of(node_run)
    wait_for(lambda: lease_of(node_run) > before, seconds=30)


def test_a_lease_is_renewed_while_the_keeper_lives() -> None:
    node_run = NodeRunFactory(lease_expires_at=timezone.now())
    with LeaseKeeper(fence_of(node_run), orders=Orders(), lease_seconds=0.8):
        for _ in range(3):
            wait_for_renewal(node_run)
    left = lease_of(node_run)
    wait_for(lambda: NodeRun.objects.with_expired_lease().exists())
    assert lease_of(node_run) == left


def test_a_dropped_connection_does_not_lose_the_lease() -> None:
    node_run, orders = NodeRunFactory(lease_expires_at=timezone.now()), Orders()
    with LeaseKeeper(fence_of(node_run), orders=orders, lease_seconds=2):
        for _ in range(2):
            wait_for_renewal(node_run)
            assert drop_other_connections() >= 1
        wait_for_renewal(node_run)
    assert not orders.is_abandoned


def test_a_cancel_reaches_the_orders() -> None:
    node_run, orders = NodeRunFactory(), Orders()
    with LeaseKeeper(fence_of(node_run), orders=orders, lease_seconds=1):
        NodeRun.objects.update(status=Status.CANCELING)
        wait_for(lambda: orders.is_canceled)
    assert not orders.is_abandoned


@pytest.mark.parametrize("loss", [{"lease_worker": "another"}, {"status": Status.FAILED}, {"attempt": 2}])
def test_a_lost_attempt_is_abandoned(loss: dict[str, object]) -> None:
    node_run, orders = NodeRunFactory(), Orders()
    with LeaseKeeper(fence_of(node_run), orders=orders, lease_seconds=1):
        NodeRun.objects.update(**loss)
        wait_for(lambda: orders.is_abandoned)
    assert not orders.is_canceled
