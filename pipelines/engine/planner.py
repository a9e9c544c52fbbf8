"""Decide what follows: which nodes are ready, which are cached, which are skipped, and when the run has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from celery_workers.contract.agent import AgentSpec
from celery_workers.contract.errors import ErrorKind
from pipelines import events
from pipelines.engine import cache
from pipelines.engine.attempts import AttemptError, end_attempt, lock_run, log_line, run_status_line, status_line
from pipelines.events import EventLine
from pipelines.graph import Graph, parse_graph
from pipelines.graph.edges import resolve_edges
from pipelines.models import Artifact, NodeRun, NodeRunOutput, Run, Status
from pipelines.models.run import LEASED
from pipelines.references import Resolution

ACTIVE = (Status.PENDING, Status.QUEUED, *LEASED)


@dataclass(kw_only=True)
class Board:
    """One run laid out for planning: its graph and the newest attempt of each node."""

    run: Run
    graph: Graph
    specs: Mapping[str, AgentSpec]
    latest: dict[str, NodeRun]
    lines: list[EventLine] = field(default_factory=list)
    queues: set[str] = field(default_factory=set)

    @property
    def known_references(self) -> dict[str, Resolution]:
        """Everything that configs of this run refer to, by value."""
        return {
            value: Resolution.from_json(data)
            for node_run in self.latest.values()
            for value, data in node_run.references.items()
        }


def advance(run_id: UUID, *, specs: Mapping[str, AgentSpec]) -> set[str]:
    """Queue, link, skip and end whatever the run's state allows, and return the queues that got work.

    Joins the caller's transaction. Nodes are looked at in the graph's order, so one pass settles everything that follows
    from a cache hit or a failure.
    """
    with transaction.atomic():
        board = lay_out(lock_run(run_id), specs=specs)
        if board.run.is_terminal:
            return set()
        for name in board.graph.order:
            if board.latest[name].status == Status.PENDING:
                _settle(board, name)
        _move_run(board)
        if board.lines:
            events.append(run_id, board.lines)
    return board.queues


def lay_out(run: Run, *, specs: Mapping[str, AgentSpec]) -> Board:
    """Read the run's graph and newest attempts."""
    latest = {node_run.node: node_run for node_run in NodeRun.objects.filter(run=run).latest_attempts()}
    return Board(run=run, graph=run_graph(run, specs), specs=specs, latest=latest)


def run_graph(run: Run, specs: Mapping[str, AgentSpec]) -> Graph:
    """Return the graph of the run's version with every edge's ports named; those that are named already stay as they are."""
    graph = parse_graph(run.version.graph)
    named = [edge for edge in graph.edges if edge.from_port and edge.to_port]
    unnamed = replace(graph, edges=tuple(edge for edge in graph.edges if edge not in named))
    return replace(graph, edges=(*named, *resolve_edges(unnamed, specs)[0]))


def gather_inputs(board: Board, name: str) -> dict[str, list[Artifact]]:
    """Return the artifacts that the node's upstreams gave it, by port, in the order of ``Graph.edges_into``."""
    edges = board.graph.edges_into(name)
    givers = {board.latest[edge.from_node].pk for edge in edges}
    given: dict[tuple[UUID, str], list[Artifact]] = {}
    for output in NodeRunOutput.objects.filter(node_run__in=givers).select_related("artifact"):
        given.setdefault((output.node_run_id, output.port), []).append(output.artifact)
    inputs: dict[str, list[Artifact]] = {}
    for edge in edges:
        inputs.setdefault(str(edge.to_port), []).extend(given.get((board.latest[edge.from_node].pk, str(edge.from_port)), []))
    return inputs


def _settle(board: Board, name: str) -> None:
    statuses = {upstream: board.latest[upstream].status for upstream in board.graph.upstream(name)}
    stopped = [upstream for upstream, status in statuses.items() if status in (Status.FAILED, Status.SKIPPED, Status.CANCELED)]
    if stopped:
        _skip(board, board.latest[name], below=stopped[0])
    elif all(status == Status.SUCCEEDED for status in statuses.values()):
        _start(board, name)


def _skip(board: Board, node_run: NodeRun, *, below: str) -> None:
    node_run.save(update_fields=node_run.move_to(Status.SKIPPED))
    board.lines.append(status_line(node_run, f"{node_run.node} skipped: {below} did not succeed"))


def _start(board: Board, name: str) -> None:
    node_run = board.latest[name]
    spec = board.specs.get(node_run.agent)
    if spec is None:
        message = f"this installation has no agent {node_run.agent} any more"
        error = AttemptError(kind=ErrorKind.USER, code="unknown_agent", message=message)
        board.lines.append(end_attempt(node_run, Status.FAILED, error))
        return
    inputs = gather_inputs(board, name)
    missing = [port.name for port in spec.inputs if port.is_required and not inputs.get(port.name)]
    if missing:
        board.lines.append(end_attempt(node_run, Status.FAILED, _missing(board, name, missing[0])))
        return
    own = {value: Resolution.from_json(data) for value, data in node_run.references.items()}
    key = cache.cache_key(spec, node_run.config, inputs=inputs, references=own, known=board.known_references)
    node_run.cache_key, node_run.cache_parts = key.sha256, key.parts
    hit = None if board.run.ignore_cache else cache.look_up(key, owner=board.run.owner)
    if hit is not None:
        _link(board, node_run, hit)
    else:
        _queue(board, node_run, key)


def _missing(board: Board, name: str, port: str) -> AttemptError:
    sources = [f"{edge.from_node}.{edge.from_port}" for edge in board.graph.edges_into(name) if edge.to_port == port]
    message = f"input {port!r} is needed, but {', '.join(sources)} gave nothing in this run"
    return AttemptError(kind=ErrorKind.USER, code="missing_input", message=message, evidence={"sources": sources})


def _link(board: Board, node_run: NodeRun, hit: NodeRun) -> None:
    outputs = [
        NodeRunOutput(node_run=node_run, port=output.port, position=output.position, artifact_id=output.artifact_id)
        for output in hit.outputs.all()
    ]
    NodeRunOutput.objects.bulk_create(outputs)
    node_run.cached, node_run.fraction, node_run.metrics = True, 1.0, hit.metrics
    node_run.step, node_run.total_steps = hit.step, hit.total_steps
    node_run.cache_note = f"unchanged since {hit.node} of run {hit.run}"
    changed = ["cached", "fraction", "metrics", "step", "total_steps", "cache_note", "cache_key", "cache_parts"]
    node_run.save(update_fields=[*node_run.move_to(Status.SUCCEEDED), *changed])
    board.lines.append(log_line(node_run, f"cache hit: {node_run.cache_note}", run_id=str(hit.run_id), node=hit.node))
    board.lines.append(status_line(node_run, f"{node_run.node} succeeded from the cache", cached=True))


def _queue(board: Board, node_run: NodeRun, key: cache.CacheKey) -> None:
    if board.run.ignore_cache:
        node_run.cache_note = cache.IGNORED
    else:
        node_run.cache_note = cache.explain_miss(key, owner=board.run.owner, node=node_run.node)
    node_run.queued_at = timezone.now()
    changed = ["queued_at", "cache_note", "cache_key", "cache_parts"]
    node_run.save(update_fields=[*node_run.move_to(Status.QUEUED), *changed])
    board.lines.append(log_line(node_run, f"cache miss: {node_run.cache_note}"))
    board.lines.append(status_line(node_run))
    board.queues.add(node_run.queue)


def _move_run(board: Board) -> None:
    run = board.run
    statuses = {node_run.status for node_run in board.latest.values()}
    if not statuses & set(ACTIVE):
        _end_run(board)
    elif run.status == Status.PENDING and Status.QUEUED in statuses:
        run.save(update_fields=run.move_to(Status.QUEUED))
        board.lines.append(run_status_line(run))


def _end_run(board: Board) -> None:
    run = board.run
    failed = [node_run for node_run in board.latest.values() if node_run.status == Status.FAILED]
    was_canceled = any(node_run.status == Status.CANCELED for node_run in board.latest.values())
    if was_canceled:
        run.save(update_fields=run.move_to(Status.CANCELED))
        board.lines.append(run_status_line(run))
    elif failed:
        first = min(failed, key=lambda node_run: (node_run.finished_at or timezone.now(), node_run.node))
        changed = run.set_error(kind=first.error_kind, code=first.error_code, message=first.error_message)
        run.error_node = first.node
        run.save(update_fields=[*run.move_to(Status.FAILED), *changed, "error_node"])
        board.lines.append(run_status_line(run, f"run failed: {first.node}: {first.error_message}"))
    else:
        run.save(update_fields=run.move_to(Status.SUCCEEDED))
        board.lines.append(run_status_line(run))
