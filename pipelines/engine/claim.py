"""Take the best waiting attempt of a queue for a worker.

Best is: highest priority of its run, then fewest running nodes of its owner, then longest waiting. Two workers never get
the same one: the row is locked with SKIP LOCKED, together with its run's (see ``attempts`` for the order of locks).
"""

from __future__ import annotations

import time
from datetime import timedelta

from django.conf import settings
from django.db import models, transaction
from django.db.models.functions import Coalesce, Now

from pipelines import events
from pipelines.engine.attempts import run_status_line, status_line
from pipelines.models import NodeRun, Status
from pipelines.models.run import LEASED

# A run's row is locked for moments only (an event batch, a plan). A claim that found everything locked looks again.
PAUSES_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.4)


def claim(queue: str, *, worker: str, lease_seconds: float | None = None) -> NodeRun | None:
    """Give ``worker`` the best waiting attempt of ``queue``, now running under a lease; None if nothing is due."""
    lease = timedelta(seconds=lease_seconds or settings.ENV.lease_seconds)
    for pause in (*PAUSES_SECONDS, None):
        claimed = _claim_once(queue, worker=worker, lease=lease)
        if claimed is not None or pause is None or not waiting(queue).exists():
            return claimed
        time.sleep(pause)
    return None


def waiting(queue: str | None = None) -> models.QuerySet[NodeRun]:
    """Return queued attempts that are due, of one queue or of all."""
    due = models.Q(not_before__isnull=True) | models.Q(not_before__lte=Now())
    found = NodeRun.objects.filter(due, status=Status.QUEUED)
    return found if queue is None else found.filter(queue=queue)


@transaction.atomic
def _claim_once(queue: str, *, worker: str, lease: timedelta) -> NodeRun | None:
    running = (
        NodeRun.objects.filter(run__owner=models.OuterRef("run__owner"), status__in=LEASED)
        .order_by()
        .values("run__owner")
        .annotate(count=models.Count("pk"))
        .values("count")
    )
    node_run = (
        waiting(queue)
        .select_related("run__owner", "run__version")
        .select_for_update(skip_locked=True, no_key=True, of=("self", "run"))
        .annotate(running_of_owner=Coalesce(models.Subquery(running), 0))
        .order_by("-run__priority", "running_of_owner", "queued_at", "pk")
        .first()
    )
    if node_run is None:
        return None
    changed = node_run.move_to(Status.RUNNING)
    node_run.lease_worker = worker
    node_run.save(update_fields=[*changed, "lease_worker"])
    NodeRun.objects.filter(pk=node_run.pk).update(lease_expires_at=Now() + lease)
    lines = [status_line(node_run, worker=worker)]
    run = node_run.run
    if run.status in (Status.PENDING, Status.QUEUED):
        run.save(update_fields=run.move_to(Status.RUNNING))
        lines.insert(0, run_status_line(run))
    events.append(run.pk, lines)
    return node_run
