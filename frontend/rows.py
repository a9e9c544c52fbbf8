"""What the pages show of runs and nodes, read from the database in a fixed number of queries."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from django.db.models import CharField, Prefetch, Q
from django.db.models.functions import Cast
from django.http import Http404
from django.utils import timezone

from pipelines.events.curves import steps_per_second
from pipelines.models import Artifact, ErrorKind, NodeRun, NodeRunOutput, Run, Status
from pipelines.models.run import LEASED, RunQuerySet
from platform_site.models import User

PAGE_RUNS = 30
FIRST_ESTIMATE = 0.02  # below this fraction an estimate of the time left would jump about
ACTIVE = (Status.PENDING, Status.QUEUED, Status.RUNNING, Status.CANCELING)
FILTERS: dict[str, tuple[Status, ...]] = {
    "active": ACTIVE,
    "succeeded": (Status.SUCCEEDED,),
    "failed": (Status.FAILED,),
    "canceled": (Status.CANCELED,),
}
HEADLINE_METRICS = ("loss", "eval_loss", "tokens_per_second")
NEXT_STEP: dict[str, str] = {
    ErrorKind.USER: "Change what the message names and start a new run: every node that succeeded comes from the cache. "
    "A retry would fail in the same way.",
    ErrorKind.RESOURCE: "Lower the batch size or the longest row, or free memory or disk space. "
    "Retry goes on from the newest checkpoint.",
    ErrorKind.INFRASTRUCTURE: "Nothing is wrong with your data or config. Retry runs what failed, from its newest checkpoint.",
    ErrorKind.BUG: "This is a fault of the program, not of your data. Retry once; if it fails again, send the evidence and "
    "the log to whoever runs this site.",
}


@dataclass(frozen=True, kw_only=True)
class NodeRow:
    """One node of a run: its newest attempt (None before the run has planned it) and what it gave."""

    name: str
    agent: str
    attempt: NodeRun | None
    outputs: Sequence[NodeRunOutput] = ()

    @property
    def status(self) -> str:
        return self.attempt.status if self.attempt else Status.PENDING

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1."""
        if self.attempt is None:
            return 0.0
        return 1.0 if self.attempt.status in (Status.SUCCEEDED, Status.SKIPPED) else self.attempt.fraction

    @property
    def percent(self) -> int:
        return int(100 * self.fraction)

    @property
    def eta_seconds(self) -> float | None:
        """Time left at the pace of the last steps, which holds for a resumed attempt too; else at that of the whole."""
        attempt = self.attempt
        if attempt is None or attempt.status not in LEASED or attempt.started_at is None:
            return None
        if attempt.step is not None and attempt.total_steps:
            rate = steps_per_second(attempt.run_id, node=attempt.node, attempt=attempt.attempt)
            return max(0, attempt.total_steps - attempt.step) / rate if rate else None
        if attempt.fraction < FIRST_ESTIMATE:
            return None
        elapsed_seconds = (timezone.now() - attempt.started_at).total_seconds()
        return elapsed_seconds * (1 - attempt.fraction) / attempt.fraction

    @property
    def headline_metrics(self) -> list[tuple[str, object]]:
        """The few latest metrics that are worth a glance."""
        metrics = self.attempt.metrics if self.attempt else {}
        return [(name, metrics[name]) for name in HEADLINE_METRICS if name in metrics]

    @property
    def reports(self) -> list[Artifact]:
        return [output.artifact for output in self.outputs if output.artifact.kind == Artifact.Kind.REPORT]

    @property
    def verdict(self) -> str:
        """The sentence in which its report says what came out, if it says so."""
        return next((str(report.metadata["verdict"]) for report in self.reports if report.metadata.get("verdict")), "")


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One run with its nodes in the order in which they can run."""

    run: Run
    nodes: list[NodeRow] = field(default_factory=list)

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1: the mean over the nodes."""
        return sum(node.fraction for node in self.nodes) / len(self.nodes) if self.nodes else 0.0

    @property
    def percent(self) -> int:
        return int(100 * self.fraction)

    @property
    def eta_seconds(self) -> float | None:
        """Time left of the nodes that run now."""
        return max((node.eta_seconds for node in self.nodes if node.eta_seconds is not None), default=None)

    @property
    def succeeded(self) -> int:
        return sum(node.status == Status.SUCCEEDED for node in self.nodes)

    @property
    def is_cancelable(self) -> bool:
        return self.run.status in ACTIVE and self.run.status != Status.CANCELING

    @property
    def is_retryable(self) -> bool:
        return self.run.status in (Status.FAILED, Status.CANCELED)

    @property
    def failed_node(self) -> NodeRow | None:
        return next((node for node in self.nodes if node.name == self.run.error_node), None)

    @property
    def next_step(self) -> str:
        """What the reader of the cause card can do."""
        return NEXT_STEP.get(self.run.error_kind, "")

    @property
    def verdict_node(self) -> NodeRow | None:
        """The node whose report speaks for the whole run: the last one with a verdict."""
        return next((node for node in reversed(self.nodes) if node.verdict), None)

    @classmethod
    def of(cls, run: Run) -> Self:
        """Put the run's prefetched attempts into graph order."""
        newest = {attempt.node: attempt for attempt in run.newest_attempts}
        nodes = [_node_row(name, agent, newest.get(name)) for name, agent in graph_order(run.version.graph)]
        return cls(run=run, nodes=nodes)


def _node_row(name: str, agent: str, attempt: NodeRun | None) -> NodeRow:
    return NodeRow(name=name, agent=agent, attempt=attempt, outputs=list(attempt.outputs.all()) if attempt else [])


def graph_order(graph: dict[str, list[dict[str, str]]]) -> list[tuple[str, str]]:
    """Return the graph's (node, agent class) pairs, every node after those that feed it, else as the graph lists them."""
    agents = {node["agent_name"]: node["agent_class"] for node in graph.get("nodes", [])}
    feeders: dict[str, set[str]] = {name: set() for name in agents}
    for edge in graph.get("edges", []):
        feeders[edge["to_agent"]].add(edge["from_agent"])
    ordered: list[str] = []
    while feeders:
        # A frozen version has no cycle, so one is always ready; were there none, the rest would come as listed.
        ready = next((name for name, names in feeders.items() if names <= set(ordered)), next(iter(feeders)))
        ordered.append(ready)
        del feeders[ready]
    return [(name, agents[name]) for name in ordered]


def runs_with_nodes(user: User, *, with_outputs: bool = False) -> RunQuerySet:
    """Return ``user``'s runs, newest first, each with ``newest_attempts`` of its nodes."""
    attempts = NodeRun.objects.order_by("run_id", "node", "-attempt").distinct("run_id", "node")
    if with_outputs:
        outputs = NodeRunOutput.objects.select_related("artifact").order_by("port", "position")
        attempts = attempts.prefetch_related(Prefetch("outputs", outputs))
    else:
        attempts = attempts.prefetch_related(Prefetch("outputs", NodeRunOutput.objects.none()))
    newest = Prefetch("node_runs", attempts, to_attr="newest_attempts")
    return Run.objects.visible_to(user).select_related("version", "version__pipeline").prefetch_related(newest).newest_first()


@dataclass(frozen=True, kw_only=True)
class RunList:
    """One page of the list, and whether there are older runs behind it."""

    rows: list[RunRow]
    older_than: uuid.UUID | None


def list_runs(user: User, *, status: str, search: str, before: str) -> RunList:
    """Read one page of runs.

    Raises: Http404: ``before`` is no run of this user, or ``status`` no filter.
    """
    runs = runs_with_nodes(user)
    if status:
        if status not in FILTERS:
            raise Http404
        runs = runs.filter(status__in=FILTERS[status])
    if "\0" in search:  # which PostgreSQL's text cannot hold
        runs = runs.none()
    elif search:
        runs = runs.annotate(id_text=Cast("id", CharField())).filter(
            Q(name__icontains=search) | Q(client_run_id__icontains=search) | Q(id_text__startswith=search.lower())
        )
    if before:
        created_at, pk = _cursor(user, before)
        runs = runs.filter(Q(created_at__lt=created_at) | Q(created_at=created_at, pk__lt=pk))
    page = list(runs[: PAGE_RUNS + 1])
    older_than = page[PAGE_RUNS - 1].pk if len(page) > PAGE_RUNS else None
    return RunList(rows=[RunRow.of(run) for run in page[:PAGE_RUNS]], older_than=older_than)


def _cursor(user: User, before: str) -> tuple[datetime, uuid.UUID]:
    run = find_run(Run.objects.visible_to(user), before)
    return run.created_at, run.pk


def find_run(runs: RunQuerySet, reference: str) -> Run:
    """Return the run that ``reference`` names.

    Raises: Http404: there is none among ``runs``.
    """
    # PostgreSQL's text has no NUL, so no run can be called by one.
    run = None if "\0" in reference else runs.referred_to_as(reference).first()
    if run is None:
        raise Http404
    return run
