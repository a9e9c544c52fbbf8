"""Drive runs of the test agents by hand or by real workers' steps."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from django.db import connection

from celery_workers.contract.messages import PortValue, Result
from pipelines.engine import outcomes, planner
from pipelines.engine.claim import claim
from pipelines.engine.outputs import store_outputs
from pipelines.events import Fence
from pipelines.models import Event, NodeRun, Run
from pipelines.services import start_run
from pipelines.tests.agents import specs
from platform_site.models import User

SPECS = specs()
FOLDER_KINDS = ("dataset", "examples", "model")


def started(user: User, graph: Mapping[str, object], **options: object) -> Run:
    """Start a run of the test agents."""
    return start_run(user=user, graph=graph, specs=SPECS, **options).run


def fence_of(node_run: NodeRun) -> Fence:
    return Fence(node_run_id=node_run.pk, attempt=node_run.attempt, worker=node_run.lease_worker)


def succeed(node_run: NodeRun, *, without: tuple[str, ...] = (), content: str = "") -> set[str]:
    """Give a claimed attempt real outputs with content that depends on its config, and record them."""
    spec = SPECS[node_run.agent]
    folder = Path(tempfile.mkdtemp(prefix="outputs-"))
    values: dict[str, list[PortValue]] = {}
    for port in spec.outputs:
        if port.name in without:
            continue
        path = folder / port.name
        if port.kind in FOLDER_KINDS:
            path.mkdir()
        file = path / "content" if port.kind in FOLDER_KINDS else path
        file.write_text(f"{port.name} {content or sorted(node_run.config.items())}")
        values[port.name] = [PortValue(kind=port.kind, path=str(path), metadata={"title": port.name})]
    try:
        outputs = store_outputs(Result(outputs=values), spec)
        board = planner.lay_out(Run.objects.get(pk=node_run.run_id), specs=SPECS)
        inputs = planner.gather_inputs(board, node_run.node)
        return outcomes.record_success(fence_of(node_run), outputs, inputs=inputs, specs=SPECS)
    finally:
        shutil.rmtree(folder)


def succeed_all(*queues: str) -> list[str]:
    """Claim and give outputs until nothing waits; return the nodes in the order they came."""
    done = []
    while node_run := next(filter(None, (claim(queue, worker="w") for queue in queues or ("cpu", "gpu"))), None):
        succeed(node_run)
        done.append(node_run.node)
    return done


def latest(run: Run, node: str) -> NodeRun:
    return NodeRun.objects.filter(run=run, node=node).latest("attempt")


def statuses(run: Run) -> dict[str, str]:
    return {node_run.node: str(node_run.status) for node_run in NodeRun.objects.filter(run=run).latest_attempts()}


def story(run: Run, kind: str = "status") -> list[tuple[str, str]]:
    """Return (node, status or message) of the run's events of one type, in order."""
    rows = Event.objects.filter(run=run, type=kind).order_by("seq")
    return [(row.node, row.data["status"] if kind == "status" else row.message) for row in rows]


def drop_other_connections() -> int:
    """Have PostgreSQL end every connection but this thread's, as a restart does, and return how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])
