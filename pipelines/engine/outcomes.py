"""Record how an attempt ended, and plan what follows: one fenced transaction each.

Every function returns the queues that got work; an attempt that its worker no longer holds changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from django.db import transaction

from celery_workers.contract.agent import AgentSpec
from celery_workers.contract.errors import ErrorKind
from models_app.registration import register_outputs
from pipelines import events
from pipelines.engine.attempts import (
    AttemptError,
    end_attempt,
    lock_run,
    log_line,
    may_try_again,
    open_next_attempt,
    queued_again_line,
    retry_instant,
)
from pipelines.engine.jsonb import storable_object, storable_text
from pipelines.engine.outputs import StoredOutput, record_outputs
from pipelines.engine.planner import advance
from pipelines.events import EventLine, Fence
from pipelines.models import Artifact, NodeRun, Status

logger = logging.getLogger(__name__)

Specs = Mapping[str, AgentSpec]


def record_success(
    fence: Fence, outputs: Sequence[StoredOutput], *, inputs: Mapping[str, Sequence[Artifact]], specs: Specs
) -> set[str]:
    """Write artifacts, registrations and the status, and plan."""

    def record(node_run: NodeRun) -> list[EventLine]:
        artifacts = record_outputs(node_run, outputs, inputs=inputs)
        register_outputs(node_run=node_run, outputs=artifacts)
        node_run.fraction = 1.0
        node_run.save(update_fields=["fraction"])
        return [end_attempt(node_run, Status.SUCCEEDED)]

    return _record(fence, record, specs=specs)


def record_failure(fence: Fence, error: AttemptError, *, specs: Specs) -> set[str]:
    """Write the error; open the next attempt if the kind of error and the count allow one; plan."""
    error = _storable(error)

    def record(node_run: NodeRun) -> list[EventLine]:
        if node_run.status == Status.CANCELING:
            return [end_attempt(node_run, Status.CANCELED)]
        return fail(node_run, error)

    return _record(fence, record, specs=specs)


def record_canceled(fence: Fence, *, specs: Specs) -> set[str]:
    """Write that the attempt stopped because the user canceled; plan."""
    return _record(fence, lambda node_run: [end_attempt(node_run, Status.CANCELED)], specs=specs)


def record_left(fence: Fence, *, specs: Specs) -> set[str]:
    """Write that the worker went away in order; the next attempt goes on at once, and this one does not count."""

    def record(node_run: NodeRun) -> list[EventLine]:
        if node_run.status == Status.CANCELING:
            return [end_attempt(node_run, Status.CANCELED)]
        message = "the worker was stopped; the node goes on with the next attempt"
        error = AttemptError(kind=ErrorKind.INFRASTRUCTURE, code="worker_stopped", message=message)
        return continue_elsewhere(node_run, error, tries=node_run.tries)

    return _record(fence, record, specs=specs)


def fail(node_run: NodeRun, error: AttemptError) -> list[EventLine]:
    """End a locked attempt as failed, with its next one where the rules allow it, and return the lines."""
    lines = [end_attempt(node_run, Status.FAILED, error)]
    trace = error.evidence.get("traceback")
    if isinstance(trace, str):
        lines.insert(0, log_line(node_run, trace, level="ERROR"))
    if may_try_again(node_run, error.kind):
        following = open_next_attempt(node_run, tries=node_run.tries + 1, not_before=retry_instant(node_run.tries))
        lines.append(queued_again_line(following))
    return lines


def continue_elsewhere(node_run: NodeRun, error: AttemptError, *, tries: int) -> list[EventLine]:
    """End a locked attempt that its worker left, and queue the next one at once."""
    lines = [end_attempt(node_run, Status.FAILED, error)]
    return [*lines, queued_again_line(open_next_attempt(node_run, tries=tries, not_before=None))]


def _record(fence: Fence, record: Callable[[NodeRun], list[EventLine]], *, specs: Specs) -> set[str]:
    with transaction.atomic():
        run_id = NodeRun.objects.values_list("run_id", flat=True).get(pk=fence.node_run_id)
        lock_run(run_id)
        held = NodeRun.objects.fenced(node_run_id=fence.node_run_id, attempt=fence.attempt, worker=fence.worker)
        node_run = held.select_related("run__owner", "run__version").select_for_update(of=("self",), no_key=True).first()
        if node_run is None:
            logger.warning("outcome.fence_lost %s attempt %s: nothing recorded", fence.node_run_id, fence.attempt)
            return set()
        events.append(run_id, record(node_run))
        queues = advance(run_id, specs=specs)
        waiting = NodeRun.objects.filter(run_id=run_id, status=Status.QUEUED, not_before__isnull=True)
        return queues | set(waiting.values_list("queue", flat=True))


def _storable(error: AttemptError) -> AttemptError:
    return replace(error, message=storable_text(error.message), evidence=storable_object(error.evidence))
