"""Many workers, viewers, cancels and reconcilers at once: the invariants of the whole engine."""

from __future__ import annotations

import random
import time

import pytest

from pipelines import events
from pipelines.engine.claim import claim
from pipelines.engine.reconcile import reconcile
from pipelines.engine.tests.driving import SPECS, fence_of, started, succeed
from pipelines.events import EventLine
from pipelines.models import Event, NodeRun, Run, Status
from pipelines.models.run import TERMINAL
from pipelines.services import cancel_run, retry_run
from pipelines.tests.agents import edge, node
from platform_site.common.errors import Conflict

pytestmark = pytest.mark.django_db(transaction=True)

RUNS = 5


def diamond(text: str) -> dict[str, object]:
    return {
        "nodes": [
            node("top", "SourceAgent", text=text),
            node("left", "CheckAgent"),
            node("right", "CheckAgent", fail_attempts=7),
            node("join", "JoinAgent"),
        ],
        "edges": [edge("top", "left"), edge("top", "right"), edge("left", "join"), edge("right", "join")],
    }


def test_nothing_is_lost_doubled_or_locked_for_ever(user, in_threads) -> None:
    runs = [started(user, diamond(str(number))) for number in range(RUNS)]
    deadline = time.monotonic() + 60

    def is_over() -> bool:
        assert time.monotonic() < deadline, "the runs did not end"
        return not Run.objects.active().exists()

    def worker(name: str) -> None:
        while not is_over():
            node_run = claim("cpu", worker=name)
            if node_run is None:
                time.sleep(0.02)
                continue
            for number in range(3):
                line = EventLine(type="log", node=node_run.node, message=str(number))
                events.append(node_run.run_id, [line], fence=fence_of(node_run))
            succeed(node_run)

    def reconciler() -> None:
        while not is_over():
            reconcile(specs=SPECS)
            time.sleep(0.05)

    def people() -> None:
        choose = random.Random(7)
        for run in choose.sample(runs, 2):
            time.sleep(0.1)
            try:
                cancel_run(run=run, user=user, specs=SPECS)
                time.sleep(0.2)
                retry_run(run=run, user=user, specs=SPECS)
            except Conflict:
                continue  # it had ended by itself, or was still canceling

    in_threads([*(lambda name=f"w{number}": worker(name) for number in range(3)), reconciler, reconciler, people])
    for run in runs:
        run.refresh_from_db()
        assert run.status in (Status.SUCCEEDED, Status.CANCELED)
        rows = list(Event.objects.filter(run=run).order_by("seq"))
        assert [row.seq for row in rows] == list(range(1, run.last_seq + 1))
        assert (rows[-1].node, rows[-1].data["status"]) == ("", run.status)
        ended = NodeRun.objects.filter(run=run)
        assert all(node_run.status in TERMINAL for node_run in ended)
        done = list(ended.filter(status=Status.SUCCEEDED).values_list("node", flat=True))
        assert len(done) == len(set(done))
        assert run.status == Status.CANCELED or sorted(done) == ["join", "left", "right", "top"]
