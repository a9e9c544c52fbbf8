"""The steps that claim, plan, record and reconcile share: lock a run, end an attempt, open the next one, say so.

Lock order, everywhere: first the run's row, then its NodeRuns. Whoever changes a NodeRun's status or lease holds the
run's row, and so does ``events.append``; a fence checked under that lock stays true until the transaction ends.
"""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from celery_workers.contract.errors import ErrorKind
from pipelines.events import EventLine
from pipelines.models import NodeRun, Run, Status

LONGEST_RETRY_SECONDS = 300.0
BUG_TRIES = 2
OUT_OF_MEMORY = "out_of_memory"
"""The code of an attempt that ran out of memory, whether the agent, the supervisor or the kernel said so."""
_LEVELS = {Status.FAILED: "ERROR", Status.CANCELED: "WARNING", Status.SKIPPED: "WARNING"}


@dataclass(frozen=True, kw_only=True)
class AttemptError:
    """Why an attempt ended without outputs."""

    kind: ErrorKind
    code: str
    message: str
    field: str = ""
    evidence: dict[str, object] = dataclasses.field(default_factory=dict)


def lock_run(run_id: UUID) -> Run:
    """Lock the run's row until the transaction ends, and return it.

    Raises: Run.DoesNotExist.
    """
    return Run.objects.select_for_update(no_key=True).get(pk=run_id)


def status_line(node_run: NodeRun, message: str = "", **data: object) -> EventLine:
    """Return the event that says a node run's status."""
    return EventLine(
        type="status",
        node=node_run.node,
        attempt=node_run.attempt,
        agent=node_run.agent,
        level=_LEVELS.get(Status(node_run.status), "INFO"),
        message=message or f"{node_run.node} {node_run.status}",
        data={"status": str(node_run.status), **data},
    )


def run_status_line(run: Run, message: str = "") -> EventLine:
    """Return the event that says the run's status."""
    level = _LEVELS.get(Status(run.status), "INFO")
    return EventLine(type="status", level=level, message=message or f"run {run.status}", data={"status": str(run.status)})


def log_line(node_run: NodeRun, message: str, *, level: str = "INFO", **data: object) -> EventLine:
    """Return a log event of a node run, written by the platform itself."""
    return EventLine(
        type="log",
        node=node_run.node,
        attempt=node_run.attempt,
        agent=node_run.agent,
        level=level,
        message=message,
        data=data,
    )


def end_attempt(node_run: NodeRun, status: Status, error: AttemptError | None = None) -> EventLine:
    """Move an attempt to its last status, drop its lease, and return the event of it."""
    changed = [*node_run.move_to(status), *_drop_lease(node_run)]
    data: dict[str, object] = {}
    message = ""
    if error is not None:
        changed += node_run.set_error(kind=error.kind, code=error.code, message=error.message)
        node_run.error_field, node_run.error_evidence = error.field[:200], error.evidence
        changed += ["error_field", "error_evidence"]
        message = f"{node_run.node} {status}: {error.message}"
        data = {"error_kind": str(error.kind), "code": error.code}
        if error.field:
            data["field"] = error.field
    node_run.save(update_fields=changed)
    return status_line(node_run, message, **data)


def open_next_attempt(ended: NodeRun, *, tries: int, not_before: datetime | None, status: Status = Status.QUEUED) -> NodeRun:
    """Write the next attempt of an ended one: same config, same references."""
    return NodeRun.objects.create(
        run_id=ended.run_id,
        node=ended.node,
        agent=ended.agent,
        queue=ended.queue,
        attempt=ended.attempt + 1,
        tries=tries,
        config=ended.config,
        references=ended.references,
        status=status,
        cache_key=ended.cache_key if status == Status.QUEUED else "",
        cache_parts=ended.cache_parts if status == Status.QUEUED else {},
        cache_note=ended.cache_note if status == Status.QUEUED else "",
        not_before=not_before,
        queued_at=timezone.now() if status == Status.QUEUED else None,
    )


def queued_again_line(node_run: NodeRun) -> EventLine:
    """Return the event of a new attempt that waits for a worker."""
    waits = max((node_run.not_before - timezone.now()).total_seconds(), 0.0) if node_run.not_before else 0.0
    when = f" in {waits:.1f} s" if waits else ""
    return status_line(
        node_run, f"{node_run.node} queued: attempt {node_run.attempt} begins{when}", delay_seconds=round(waits, 3)
    )


def memory_failures(node_run: NodeRun) -> int:
    """Return how many attempts of this node in this run have ended for lack of memory."""
    attempts = NodeRun.objects.filter(run_id=node_run.run_id, node=node_run.node)
    return attempts.filter(status=Status.FAILED, error_code=OUT_OF_MEMORY).count()


def may_try_again(node_run: NodeRun, kind: ErrorKind) -> bool:
    """Say whether a failure of this kind gets another attempt: user never, bug once, the others up to MAX_ATTEMPTS."""
    limit = {ErrorKind.USER: 1, ErrorKind.BUG: min(BUG_TRIES, settings.ENV.max_attempts)}.get(kind, settings.ENV.max_attempts)
    return node_run.tries < limit


def retry_instant(tries: int) -> datetime:
    """Return when the attempt after ``tries`` counted ones may begin: doubling, with jitter of half to one and a half."""
    delay_seconds = min(settings.ENV.retry_base_seconds * 2 ** (tries - 1), LONGEST_RETRY_SECONDS)
    return timezone.now() + timedelta(seconds=delay_seconds * random.uniform(0.5, 1.5))  # noqa: S311 (spreads load)


def _drop_lease(node_run: NodeRun) -> list[str]:
    node_run.lease_expires_at = None  # lease_worker stays: it says who had the attempt
    return ["lease_expires_at"]
