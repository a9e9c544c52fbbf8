from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from pipelines.engine.claim import claim
from pipelines.engine.reconcile import reconcile
from pipelines.engine.tests.driving import SPECS, latest, started, statuses, story, succeed
from pipelines.models import NodeRun, Run, Status, Worker
from pipelines.services import cancel_run
from pipelines.tests.agents import chain
from pipelines.tests.factories import NodeRunFactory

pytestmark = pytest.mark.django_db(transaction=True)


def lose_lease(node_run: NodeRun) -> None:
    NodeRun.objects.filter(pk=node_run.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))


def test_a_lost_lease_ends_the_attempt_and_queues_the_next_at_once(user) -> None:
    run = started(user, chain())
    lost = claim("cpu", worker="dead")
    lose_lease(lost)
    assert reconcile(specs=SPECS) == {"cpu"}
    first, second = NodeRun.objects.filter(run=run, node="source").order_by("attempt")
    assert (first.status, first.error_kind, first.error_code) == ("failed", "infrastructure", "lease_lost")
    assert (second.status, second.tries, second.not_before) == ("queued", 2, None)
    assert succeed(lost) == set()
    again = claim("cpu", worker="w")
    assert again.attempt == 2
    succeed(again)
    assert statuses(run)["source"] == "succeeded"


def test_a_node_that_kills_its_workers_fails_in_the_end(user) -> None:
    run = started(user, chain())
    for _ in range(django_settings.ENV.max_attempts):
        lose_lease(claim("cpu", worker="dead"))
        reconcile(specs=SPECS)
    assert statuses(run)["source"] == "failed"
    assert Run.objects.get(pk=run.pk).status == Status.FAILED
    assert story(run)[-1] == ("", "failed")


def test_a_live_lease_is_left_alone(user) -> None:
    run = started(user, chain())
    claim("cpu", worker="alive")
    assert reconcile(specs=SPECS) == set()
    assert statuses(run)["source"] == "running"


def test_a_canceling_node_whose_worker_died_is_canceled(user) -> None:
    run = started(user, chain())
    node_run = claim("cpu", worker="dead")
    cancel_run(run=run, user=user, specs=SPECS)
    assert statuses(run)["source"] == "canceling"
    lose_lease(node_run)
    reconcile(specs=SPECS)
    run.refresh_from_db()
    assert (run.status, statuses(run)["source"]) == ("canceled", "canceled")


def test_what_waits_is_woken_when_it_is_due(user) -> None:
    run = started(user, chain())
    assert reconcile(specs=SPECS) == {"cpu"}
    NodeRun.objects.filter(run=run).update(not_before=timezone.now() + timedelta(hours=1))
    assert reconcile(specs=SPECS) == set()


def test_a_run_that_nobody_planned_goes_on(user) -> None:
    run = started(user, chain())
    NodeRun.objects.filter(run=run, node="source").update(status=Status.PENDING)
    assert reconcile(specs=SPECS) == {"cpu"}
    assert statuses(run)["source"] == "queued"


def test_reconcilers_beside_each_other_give_one_next_attempt(user, in_threads) -> None:
    runs = [started(user, chain(source={"text": str(number)})) for number in range(3)]
    for _ in runs:
        lose_lease(claim("cpu", worker="dead"))
    in_threads([lambda: reconcile(specs=SPECS)] * 4)
    reconcile(specs=SPECS)
    for run in runs:
        assert [row.attempt for row in NodeRun.objects.filter(run=run, node="source").order_by("attempt")] == [1, 2]
        assert latest(run, "source").status == Status.QUEUED


def test_one_broken_run_does_not_keep_the_others(user) -> None:
    broken, whole = started(user, chain()), started(user, chain(source={"text": "b"}))
    for _ in range(2):
        lose_lease(claim("cpu", worker="dead"))
    type(broken.version).objects.filter(pk=broken.version_id).update(graph={"nodes": "gone"})
    reconcile(specs=SPECS)
    assert statuses(whole)["source"] == "queued"
    assert statuses(broken)["source"] == "running"


def test_workers_long_silent_are_forgotten() -> None:
    now = timezone.now()
    for name, age in (("old", timedelta(hours=1)), ("late", timedelta(minutes=1))):
        Worker.objects.create(name=name, queue="cpu", expires_at=now - age)
    reconcile(specs=SPECS)
    assert list(Worker.objects.values_list("name", flat=True)) == ["late"]


def test_folders_of_ended_attempts_are_swept_and_those_in_use_stay() -> None:
    root = Path(django_settings.VAR_DIR) / "work"
    in_use, ended, fresh = (
        NodeRunFactory(node=name, status=status)
        for name, status in zip(("a", "b", "c"), (Status.RUNNING, Status.FAILED, Status.FAILED), strict=True)
    )
    NodeRun.objects.update(lease_expires_at=timezone.now() + timedelta(hours=1))
    for node_run in (in_use, ended, fresh):
        (root / str(node_run.pk)).mkdir(parents=True)
        (root / str(node_run.pk) / "file").write_text("x")
    for node_run in (in_use, ended):
        os.utime(root / str(node_run.pk), (time.time() - 3600,) * 2)
    try:
        reconcile(specs=SPECS)
        assert sorted(path.name for path in root.iterdir()) == sorted([str(in_use.pk), str(fresh.pk)])
    finally:
        for node_run in (in_use, fresh):
            (root / str(node_run.pk) / "file").unlink()
            (root / str(node_run.pk)).rmdir()
