"""Put right what messages and workers left undone: lost leases, forgotten work, stuck runs, vanished workers.

Runs every few seconds, on as many machines as like: each step locks a run with SKIP LOCKED and looks again under the lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from celery_workers.contract.agent import AgentSpec
from celery_workers.contract.errors import ErrorKind
from pipelines import catalog, events
from pipelines.engine import outcomes, workdir
from pipelines.engine.attempts import AttemptError, end_attempt, may_try_again
from pipelines.engine.claim import waiting
from pipelines.engine.planner import advance
from pipelines.models import NodeRun, Run, Status, Worker
from pipelines.models.run import LEASED

logger = logging.getLogger(__name__)

Specs = Mapping[str, AgentSpec]

STALE_WORKER = timedelta(minutes=10)


def reconcile(*, specs: Specs | None = None) -> set[str]:
    """Do what is due and return the queues that have work: the caller wakes them."""
    specs = catalog.agents() if specs is None else specs
    expired = NodeRun.objects.with_expired_lease().values_list("run_id", flat=True).distinct()
    _each_run(expired, lambda run_id: _take_back(run_id, specs=specs))
    _each_run(_stuck_runs(), lambda run_id: advance(run_id, specs=specs))
    Worker.objects.filter(expires_at__lt=Now() - STALE_WORKER).delete()
    workdir.sweep_stale()
    return set(waiting().values_list("queue", flat=True).distinct())


def _each_run(run_ids: Iterable[UUID], act: Callable[[UUID], object]) -> None:
    for run_id in list(run_ids):
        try:
            with transaction.atomic():
                if Run.objects.select_for_update(skip_locked=True, no_key=True).filter(pk=run_id).exists():
                    act(run_id)
        except Exception:
            # One broken run must not keep the others from being put right; it is tried again at the next look.
            logger.exception("reconcile.failed for run %s", run_id)


def _take_back(run_id: UUID, *, specs: Specs) -> None:
    """End the run's attempts whose worker went silent; the nodes go on at once, from their checkpoints."""
    lost = NodeRun.objects.with_expired_lease().filter(run_id=run_id).select_for_update(no_key=True)
    for node_run in lost:
        logger.warning("lease.expired %s attempt %s of %s", node_run.pk, node_run.attempt, node_run.lease_worker)
        is_canceled = node_run.status == Status.CANCELING
        events.append(run_id, [end_attempt(node_run, Status.CANCELED)] if is_canceled else _lost(node_run))
    advance(run_id, specs=specs)


def _lost(node_run: NodeRun) -> list[events.EventLine]:
    error = AttemptError(
        kind=ErrorKind.INFRASTRUCTURE,
        code="lease_lost",
        message=f"worker {node_run.lease_worker} stopped renewing its lease",
        evidence={"worker": node_run.lease_worker},
    )
    if may_try_again(node_run, error.kind):
        return outcomes.continue_elsewhere(node_run, error, tries=node_run.tries + 1)
    return outcomes.fail(node_run, error)


def _stuck_runs() -> Iterable[UUID]:
    """Return runs that have not ended, though no worker has or will get anything of them."""
    moving = NodeRun.objects.filter(Q(status=Status.QUEUED) | Q(status__in=LEASED), run=OuterRef("pk"))
    return Run.objects.active().filter(~Exists(moving)).values_list("pk", flat=True)
