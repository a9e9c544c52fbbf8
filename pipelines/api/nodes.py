"""A run's nodes as its answers show them: the newest attempt of each, and how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from django.utils import timezone

from pipelines.events.curves import steps_per_second
from pipelines.models import NodeRun, Run, Status
from pipelines.models.run import LEASED


class NodeProgress(TypedDict):
    """How far one node is."""

    name: str
    status: str
    fraction: float
    step: int | None
    total_steps: int | None
    metrics: dict[str, object]


class RunProgress(TypedDict):
    """How far a run is; ``eta_seconds`` covers the nodes that run now, and is null where no rate is known."""

    status: str
    fraction: float
    eta_seconds: float | None
    nodes: list[NodeProgress]


def newest_attempts(run: Run) -> list[NodeRun]:
    """Return the newest attempt of each node, in the order of the graph."""
    newest = {node_run.node: node_run for node_run in sorted(run.node_runs.all(), key=lambda node_run: node_run.attempt)}
    order = [str(node["agent_name"]) for node in run.version.graph.get("nodes", [])]
    ordered = [newest.pop(name) for name in order if name in newest]
    return ordered + [newest[name] for name in sorted(newest)]


def progress_of(run: Run) -> RunProgress:
    """Return how far ``run`` and each of its nodes is."""
    node_runs = newest_attempts(run)
    nodes = [_node_progress(node_run) for node_run in node_runs]
    fraction = sum(node["fraction"] for node in nodes) / len(nodes) if nodes else 0.0
    return {
        "status": run.status,
        "fraction": 1.0 if run.status == Status.SUCCEEDED else round(fraction, 4),
        "eta_seconds": _eta_seconds(node_runs),
        "nodes": nodes,
    }


def _node_progress(node_run: NodeRun) -> NodeProgress:
    is_done = node_run.status in (Status.SUCCEEDED, Status.SKIPPED)
    return {
        "name": node_run.node,
        "status": node_run.status,
        "fraction": 1.0 if is_done else round(node_run.fraction, 4),
        "step": node_run.step,
        "total_steps": node_run.total_steps,
        "metrics": node_run.metrics,
    }


def _eta_seconds(node_runs: Sequence[NodeRun]) -> float | None:
    estimates = [_remaining_seconds(node_run) for node_run in node_runs if node_run.status in LEASED]
    known = [seconds for seconds in estimates if seconds is not None]
    return round(max(known), 1) if known else None


def _remaining_seconds(node_run: NodeRun) -> float | None:
    """Estimate from the rate of the last steps; a resumed attempt began in the middle, so its elapsed time would mislead."""
    if node_run.step is not None and node_run.total_steps:
        rate = steps_per_second(node_run.run_id, node=node_run.node, attempt=node_run.attempt)
        return max(0, node_run.total_steps - node_run.step) / rate if rate else None
    if node_run.started_at is None or not 0 < node_run.fraction <= 1:
        return None
    elapsed_seconds = (timezone.now() - node_run.started_at).total_seconds()
    return elapsed_seconds * (1 - node_run.fraction) / node_run.fraction
