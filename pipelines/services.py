"""What people and scripts do with pipelines and runs. Each function is one transaction, and wakes workers after it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.utils import timezone

from celery_workers.contract.agent import AgentSpec
from celery_workers.contract.errors import ErrorKind
from pipelines import catalog, events
from pipelines.engine import outcomes, planner
from pipelines.engine.attempts import (
    AttemptError,
    end_attempt,
    lock_run,
    open_next_attempt,
    run_status_line,
    status_line,
)
from pipelines.graph import Graph, read_graph, validate
from pipelines.models import NodeRun, Pipeline, PipelineVersion, Run, Status
from pipelines.models.run import LEASED
from pipelines.references import resolve_graph
from pipelines.run_requests import CheckedGraph, RunRequest
from platform_site.common.errors import Conflict, Problem
from platform_site.models import User

Specs = Mapping[str, AgentSpec]


@dataclass(frozen=True, kw_only=True)
class StartedRun:
    """A run, and whether this request made it: an Idempotency-Key that is known gives the earlier one."""

    run: Run
    created: bool


def start_run(
    *,
    user: User,
    graph: Mapping[str, object] | None = None,
    version: PipelineVersion | None = None,
    client_run_id: str | None = None,
    name: str = "",
    parameters: Mapping[str, object] | None = None,
    ignore_cache: bool = False,
    idempotency_key: str | None = None,
    specs: Specs | None = None,
) -> StartedRun:
    """Check everything, freeze the graph, write the run with its nodes, and queue what is ready.

    Give ``graph`` (pipeline JSON) or ``version``. ``parameters`` are ``{"node.field": value}`` laid over its configs.

    Raises: InvalidGraph: with every problem by node and field. Conflict: the run id is taken, or the key was used for
        another request. InvalidInput: the run id is malformed, or neither or both of graph and version are given.
    """
    request = RunRequest(
        user=user,
        graph=graph,
        version=version,
        client_run_id=client_run_id or None,
        name=name,
        parameters=dict(parameters or {}),
        ignore_cache=ignore_cache,
        idempotency_key=idempotency_key or None,
    )
    if earlier := request.earlier_run():
        return StartedRun(run=earlier, created=False)
    request.check_client_run_id()
    specs = catalog.agents() if specs is None else specs
    checked = request.checked(specs)
    try:
        run = _write_run(request, checked, specs)
    except IntegrityError:
        if earlier := request.earlier_run():  # the faster of two equal requests
            return StartedRun(run=earlier, created=False)
        request.check_client_run_id()
        raise
    return StartedRun(run=run, created=True)


def validate_pipeline(*, user: User, graph: object, specs: Specs | None = None) -> list[Problem]:
    """Return every problem that starting this graph would meet; stores nothing."""
    specs = catalog.agents() if specs is None else specs
    parsed, problems = read_graph(graph)
    problems = [*problems, *validate(parsed, specs)]
    return [*problems, *resolve_graph(parsed, specs, user=user)[1]]


@transaction.atomic
def freeze_version(*, user: User, graph: Graph, pipeline: Pipeline | None = None, name: str = "") -> PipelineVersion:
    """Return the immutable version of a normalized graph: an equal one of the same pipeline (or of none), else a new one."""
    if pipeline is not None:
        Pipeline.objects.select_for_update(no_key=True).get(pk=pipeline.pk)  # one number at a time
    scope = PipelineVersion.objects.filter(owner=user, pipeline=pipeline)
    found: PipelineVersion | None = scope.filter(sha256=graph.sha256).order_by("-number").first()
    if found is not None:
        return found
    newest = scope.order_by("-number").first() if pipeline is not None else None
    number = newest.number + 1 if newest else 1
    version = PipelineVersion(
        owner=user, pipeline=pipeline, number=number, name=name, graph=graph.as_json(), sha256=graph.sha256
    )
    if pipeline is not None:
        version.save()
        return version
    # Two requests may post one graph at once: the second takes the first's.
    PipelineVersion.objects.bulk_create([version], ignore_conflicts=True)
    first: PipelineVersion = scope.get(sha256=graph.sha256)
    return first


def cancel_run(*, run: Run, user: User, specs: Specs | None = None) -> Run:  # noqa: ARG001 (who asked; teams will need it)
    """Ask for cancel: what waits is canceled now, what runs stops within a step; asking twice changes nothing.

    Raises: Conflict: the run has ended.
    """
    specs = catalog.agents() if specs is None else specs
    with transaction.atomic():
        locked = lock_run(run.pk)
        if locked.is_terminal:
            raise Conflict(f"the run has ended: it is {locked.status}", code="run_ended")
        if locked.status != Status.CANCELING:
            locked.cancel_requested_at = timezone.now()
            locked.save(update_fields=[*locked.move_to(Status.CANCELING), "cancel_requested_at"])
            lines = [run_status_line(locked)]
            for node_run in NodeRun.objects.filter(run=locked).latest_attempts().order_by("node"):
                if node_run.status in (Status.PENDING, Status.QUEUED):
                    lines.append(end_attempt(node_run, Status.CANCELED))
                elif node_run.status == Status.RUNNING:
                    node_run.save(update_fields=node_run.move_to(Status.CANCELING))
                    lines.append(status_line(node_run))
            events.append(locked.pk, lines)
        planner.advance(locked.pk, specs=specs)
    run.refresh_from_db()
    return run


def retry_run(*, run: Run, user: User, specs: Specs | None = None) -> Run:  # noqa: ARG001 (who asked; teams will need it)
    """Open an ended run again: what failed, was skipped or canceled gets a new attempt, which goes on from checkpoints.

    Raises: Conflict: the run has not ended, or ended well.
    """
    specs = catalog.agents() if specs is None else specs
    with transaction.atomic():
        locked = lock_run(run.pk)
        unfinished = [Status.FAILED, Status.SKIPPED, Status.CANCELED]
        if locked.status not in (Status.FAILED, Status.CANCELED):
            raise Conflict(f"only a failed or canceled run can be retried; this one is {locked.status}", code="not_retryable")
        _reopen(locked)
        for node_run in NodeRun.objects.filter(run=locked).latest_attempts().filter(status__in=unfinished):
            open_next_attempt(node_run, tries=1, not_before=None, status=Status.PENDING)
        _wake_after_commit(planner.advance(locked.pk, specs=specs))
    run.refresh_from_db()
    return run


def requeue_node_run(*, node_run: NodeRun, specs: Specs | None = None) -> NodeRun:
    """Give a node another attempt now: take it from its worker, end its waiting, or open its ended run again.

    Returns: the attempt that waits. Raises: Conflict: it succeeded, waits for its inputs, or is not the newest attempt.
    """
    specs = catalog.agents() if specs is None else specs
    with transaction.atomic():
        run = lock_run(node_run.run_id)
        newest = NodeRun.objects.filter(run=run, node=node_run.node).latest("attempt")
        if newest.pk != node_run.pk:
            raise Conflict(f"attempt {node_run.attempt} of {node_run.node} is not its newest", code="not_newest")
        following: NodeRun = newest
        if newest.status == Status.QUEUED:
            NodeRun.objects.filter(pk=newest.pk).update(not_before=None)
        elif newest.status in LEASED and run.status != Status.CANCELING:
            message = "an operator took the node from its worker"
            error = AttemptError(kind=ErrorKind.INFRASTRUCTURE, code="requeued", message=message)
            events.append(run.pk, outcomes.continue_elsewhere(newest, error, tries=1))
            following = NodeRun.objects.filter(run=run, node=newest.node).latest("attempt")
        elif newest.status in (Status.FAILED, Status.CANCELED) and run.status != Status.CANCELING:
            following = _open_again(run, newest, specs=specs)
        else:
            raise Conflict(f"{newest.node} is {newest.status} in a run that is {run.status}", code="not_requeueable")
        queues = planner.advance(run.pk, specs=specs)
        _wake_after_commit({*queues, following.queue})
    following.refresh_from_db()
    return following


def _open_again(run: Run, node_run: NodeRun, *, specs: Specs) -> NodeRun:
    """Open a node that failed or was canceled, and what was skipped or canceled below it.

    Raises: Conflict: a node that it takes inputs from has not succeeded.
    """
    board = planner.lay_out(run, specs=specs)
    for name in board.graph.upstream(node_run.node):
        if board.latest[name].status in (Status.FAILED, Status.SKIPPED, Status.CANCELED):
            message = f"{node_run.node} needs {name}, which is {board.latest[name].status}; requeue that one, or retry the run"
            raise Conflict(message, code="not_requeueable")
    if run.is_terminal:
        _reopen(run)
    for name in board.graph.descendants(node_run.node):
        if board.latest[name].status in (Status.SKIPPED, Status.CANCELED):
            open_next_attempt(board.latest[name], tries=1, not_before=None, status=Status.PENDING)
    return open_next_attempt(node_run, tries=1, not_before=None, status=Status.PENDING)


def _reopen(run: Run) -> None:
    changed = [*run.move_to(Status.RUNNING), *run.set_error(kind="", code="", message="")]
    run.error_node, run.cancel_requested_at = "", None
    run.save(update_fields=[*changed, "error_node", "cancel_requested_at"])
    events.append(run.pk, [run_status_line(run, "run opened again")])


@transaction.atomic
def _write_run(request: RunRequest, checked: CheckedGraph, specs: Specs) -> Run:
    version = request.version or freeze_version(user=request.user, graph=checked.graph, name=request.name)
    run = Run.objects.create(
        owner=request.user,
        version=version,
        name=request.name,
        client_run_id=request.client_run_id,
        idempotency_key=request.idempotency_key,
        request_digest=request.digest,
        parameters=request.parameters,
        ignore_cache=request.ignore_cache,
    )
    NodeRun.objects.bulk_create(
        NodeRun(
            run=run,
            node=node.name,
            agent=node.agent_class,
            queue=specs[node.agent_class].queue.value,
            config=node.config,
            references={value: found.as_json() for value, found in checked.resolutions[node.name].items()},
        )
        for node in checked.graph.nodes
    )
    events.append(run.pk, [run_status_line(run)])
    _wake_after_commit(planner.advance(run.pk, specs=specs))
    run.refresh_from_db()
    return run


def _wake_after_commit(queues: Iterable[str]) -> None:
    from celery_workers import tasks

    if queues := set(queues):
        transaction.on_commit(functools.partial(tasks.wake, queues))
