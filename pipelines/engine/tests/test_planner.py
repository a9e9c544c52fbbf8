from __future__ import annotations

import pytest

from celery_workers.contract.errors import ErrorKind
from pipelines.engine import outcomes
from pipelines.engine.attempts import AttemptError
from pipelines.engine.claim import claim
from pipelines.engine.planner import advance
from pipelines.engine.tests.driving import SPECS, fence_of, latest, started, statuses, story, succeed, succeed_all
from pipelines.models import NodeRun, Run, Status
from pipelines.tests.agents import chain, edge, node

pytestmark = pytest.mark.django_db(transaction=True)

DIAMOND = {
    "nodes": [
        node("top", "SourceAgent"),
        node("left", "CheckAgent"),
        node("right", "CheckAgent", fail_attempts=7),
        node("join", "JoinAgent"),
    ],
    "edges": [edge("top", "left"), edge("top", "right"), edge("left", "join"), edge("right", "join")],
}


def fail(node_name: str, queue: str = "cpu") -> set[str]:
    node_run = claim(queue, worker="w")
    assert node_run.node == node_name
    error = AttemptError(kind=ErrorKind.USER, code="bad_rows", message="row 7 is empty", field="text")
    return outcomes.record_failure(fence_of(node_run), error, specs=SPECS)


def test_a_run_goes_node_by_node_and_ends_with_its_own_status(user) -> None:
    run = started(user, chain())
    assert statuses(run) == {"source": "queued", "check": "pending", "split": "pending", "train": "pending"}
    assert run.status == Status.QUEUED
    assert succeed_all() == ["source", "check", "split", "train"]
    run.refresh_from_db()
    assert run.status == Status.SUCCEEDED
    expected = [("", "pending"), ("source", "queued"), ("", "queued"), ("", "running")]
    for name, following in zip(("source", "check", "split", "train"), ("check", "split", "train", ""), strict=True):
        expected += [(name, "running"), (name, "succeeded"), (following, "queued" if following else "succeeded")]
    assert story(run) == expected


def test_success_says_which_queue_has_work(user) -> None:
    started(user, chain())
    assert succeed(claim("cpu", worker="w")) == {"cpu"}
    succeed(claim("cpu", worker="w"))
    assert succeed(claim("cpu", worker="w")) == {"gpu"}


def test_a_diamond_joins_when_both_sides_are_done(user) -> None:
    run = started(user, DIAMOND)
    succeed(claim("cpu", worker="w"))
    assert statuses(run) == {"top": "succeeded", "left": "queued", "right": "queued", "join": "pending"}
    succeed(claim("cpu", worker="w"))
    assert statuses(run)["join"] == "pending"
    succeed(claim("cpu", worker="w"))
    assert statuses(run)["join"] == "queued"
    succeed(claim("cpu", worker="w"))
    made = latest(run, "join").outputs.get().artifact
    assert made.parents.count() == 2


def test_below_a_failed_node_everything_is_skipped_and_other_branches_go_on(user) -> None:
    graph = {
        "nodes": [*DIAMOND["nodes"], node("below", "JoinAgent"), node("alone", "JoinAgent", title="Alone")],
        "edges": [*DIAMOND["edges"], edge("join", "below"), edge("right", "alone")],
    }
    run = started(user, graph)
    succeed(claim("cpu", worker="w"))
    fail("left")
    assert statuses(run) == {
        "top": "succeeded",
        "left": "failed",
        "right": "queued",
        "join": "skipped",
        "below": "skipped",
        "alone": "pending",
    }
    assert sorted(succeed_all()) == ["alone", "right"]
    run.refresh_from_db()
    assert (run.status, run.error_node, run.error_kind, run.error_code) == ("failed", "left", "user", "bad_rows")
    assert story(run)[-1] == ("", "failed")
    assert latest(run, "left").error_field == "text"


def test_an_optional_output_that_is_missing_fails_only_who_needs_it(user) -> None:
    graph = chain()
    graph["nodes"].append(node("train_eval", "TrainAgent", steps=2))
    graph["edges"].append(edge("split.eval_examples", "train_eval.examples"))
    run = started(user, graph)
    succeed(claim("cpu", worker="w"))
    succeed(claim("cpu", worker="w"))
    succeed(claim("cpu", worker="w"), without=("eval_examples",))
    assert statuses(run)["train"] == "queued"
    failed = latest(run, "train_eval")
    assert (failed.status, failed.error_kind, failed.error_code) == ("failed", "user", "missing_input")
    assert "split.eval_examples gave nothing" in failed.error_message


def test_advancing_again_changes_nothing(user) -> None:
    run = started(user, DIAMOND)
    succeed(claim("cpu", worker="w"))
    before = (statuses(run), len(story(run)))
    assert advance(run.pk, specs=SPECS) == set()
    assert (statuses(run), len(story(run))) == before
    succeed_all()
    assert advance(run.pk, specs=SPECS) == set()
    assert story(run)[-1] == ("", "succeeded")


def test_a_late_write_of_an_ended_attempt_changes_nothing(user) -> None:
    run = started(user, chain())
    zombie = claim("cpu", worker="zombie")
    type(zombie).objects.filter(pk=zombie.pk).update(lease_worker="new owner")
    assert succeed(zombie) == set()
    assert statuses(run)["source"] == "running"
    assert not latest(run, "source").outputs.exists()
    error = AttemptError(kind=ErrorKind.BUG, code="x", message="x")
    assert outcomes.record_failure(fence_of(zombie), error, specs=SPECS) == set()
    assert Run.objects.get(pk=run.pk).status == Status.RUNNING


def test_an_agent_that_is_gone_fails_its_node_and_skips_what_follows(user) -> None:
    run = started(user, chain())
    succeed(claim("cpu", worker="w"))
    succeed(claim("cpu", worker="w"))
    NodeRun.objects.filter(run=run, node="split").update(status=Status.PENDING)
    remaining = {name: spec for name, spec in SPECS.items() if name != "SplitAgent"}
    advance(run.pk, specs=remaining)
    assert statuses(run) == {"source": "succeeded", "check": "succeeded", "split": "failed", "train": "skipped"}
    assert latest(run, "split").error_code == "unknown_agent"
