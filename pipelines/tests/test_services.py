from __future__ import annotations

import pytest

from pipelines.engine.claim import claim
from pipelines.engine.tests.driving import SPECS, latest, started, statuses, story, succeed, succeed_all
from pipelines.graph import normalize, parse_graph
from pipelines.models import NodeRun, Pipeline, PipelineVersion, Run, Status
from pipelines.services import (
    cancel_run,
    freeze_version,
    requeue_node_run,
    retry_run,
    start_run,
    validate_pipeline,
)
from pipelines.tests.agents import chain, node
from platform_site.common.errors import Conflict, InvalidGraph, InvalidInput

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_run_has_a_frozen_version_and_complete_configs(user) -> None:
    run = started(user, chain(train={"steps": 2}), client_run_id="abc123", name="First")
    assert (run.client_run_id, run.name, run.owner) == ("abc123", "First", user)
    defaults = {"learning_rate": 0.001, "die_at_step": 0, "needed_memory_failures": 0}
    assert latest(run, "train").config == {**defaults, "steps": 2}
    assert run.version.graph["edges"][0]["from_port"] == "dataset"
    assert started(user, chain(train={"steps": 2})).version == run.version
    with pytest.raises(TypeError, match="immutable"):
        run.version.save()


def test_a_bad_graph_is_refused_with_all_its_problems_and_nothing_is_written(user) -> None:
    graph = chain(train={"steps": 0}, source={"file_path": "example:no-such-thing"}, split={"base_model": "bundled:nope"})
    graph["nodes"].append(node("ghost", "GhostAgent"))
    with pytest.raises(InvalidGraph) as refused:
        start_run(user=user, graph=graph, specs=SPECS)
    assert {(problem.node, problem.field) for problem in refused.value.errors} == {
        ("ghost", "agent_class"),
        ("train", "steps"),
        ("source", "file_path"),
        ("split", "base_model"),
    }
    assert not Run.objects.exists()
    assert not PipelineVersion.objects.exists()
    assert [problem.message for problem in validate_pipeline(user=user, graph=graph, specs=SPECS)]


def test_one_kind_of_problem_gives_the_answer_its_code(user) -> None:
    with pytest.raises(InvalidGraph) as refused:
        start_run(user=user, graph=chain(train={"steps": 0}), specs=SPECS)
    assert refused.value.error_code == "invalid_config"


def test_the_same_key_and_request_give_the_same_run(user, other_user) -> None:
    first = start_run(user=user, graph=chain(), idempotency_key="k", specs=SPECS)
    again = start_run(user=user, graph=chain(), idempotency_key="k", specs=SPECS)
    assert (first.created, again.created, again.run) == (True, False, first.run)
    assert start_run(user=other_user, graph=chain(), idempotency_key="k", specs=SPECS).created
    with pytest.raises(Conflict) as refused:
        start_run(user=user, graph=chain(train={"steps": 2}), idempotency_key="k", specs=SPECS)
    assert refused.value.error_code == "idempotency_key_reused"


def test_a_run_id_is_taken_once_per_owner(user, other_user) -> None:
    started(user, chain(), client_run_id="mine")
    with pytest.raises(Conflict) as refused:
        started(user, chain(), client_run_id="mine")
    assert refused.value.error_code == "run_id_taken"
    started(other_user, chain(), client_run_id="mine")
    with pytest.raises(InvalidInput):
        started(user, chain(), client_run_id="no/slashes")


def test_equal_requests_at_one_instant_give_one_run(user, in_threads) -> None:
    def start() -> object:
        return start_run(user=user, graph=chain(), client_run_id="one", idempotency_key="k", specs=SPECS).run.pk

    assert len(set(in_threads([start] * 4))) == 1
    assert Run.objects.count() == 1


def test_parameters_are_laid_over_a_version_and_checked(user) -> None:
    pipeline = Pipeline.objects.create(owner=user, name="p")
    graph = normalize(parse_graph(chain()), SPECS)
    version = freeze_version(user=user, graph=graph, pipeline=pipeline)
    run = start_run(user=user, version=version, parameters={"train.steps": 7}, specs=SPECS).run
    assert (run.version, latest(run, "train").config["steps"]) == (version, 7)
    with pytest.raises(InvalidGraph) as refused:
        start_run(user=user, version=version, parameters={"train.steps": 0, "x.y": 1, "z": 1}, specs=SPECS)
    assert {(problem.node, problem.field) for problem in refused.value.errors} == {
        ("train", "steps"),
        (None, "x.y"),
        (None, "z"),
    }


def test_versions_of_a_pipeline_are_numbered_and_equal_graphs_share_one(user) -> None:
    pipeline = Pipeline.objects.create(owner=user, name="p")
    graphs = [normalize(parse_graph(chain(train={"steps": steps})), SPECS) for steps in (1, 2, 1)]
    versions = [freeze_version(user=user, graph=graph, pipeline=pipeline) for graph in graphs]
    assert [version.number for version in versions] == [1, 2, 1]


def test_canceling_ends_what_waits_and_asks_what_runs(user) -> None:
    run = started(user, chain())
    claim("cpu", worker="w")
    cancel_run(run=run, user=user, specs=SPECS)
    assert run.status == Status.CANCELING
    assert statuses(run) == {"source": "canceling", "check": "canceled", "split": "canceled", "train": "canceled"}
    cancel_run(run=run, user=user, specs=SPECS)
    assert story(run).count(("", "canceling")) == 1


def test_canceling_a_run_that_has_not_begun_ends_it(user) -> None:
    run = cancel_run(run=started(user, chain()), user=user, specs=SPECS)
    assert run.status == Status.CANCELED
    assert story(run)[-1] == ("", "canceled")
    with pytest.raises(Conflict) as refused:
        cancel_run(run=run, user=user, specs=SPECS)
    assert refused.value.error_code == "run_ended"


def test_a_node_that_ends_well_while_canceling_keeps_its_result(user) -> None:
    run = started(user, chain())
    node_run = claim("cpu", worker="w")
    cancel_run(run=run, user=user, specs=SPECS)
    succeed(node_run)
    run.refresh_from_db()
    assert (run.status, statuses(run)["source"]) == ("canceled", "succeeded")


def test_a_retry_runs_again_what_did_not_succeed(user) -> None:
    run = started(user, chain())
    succeed(claim("cpu", worker="w"))
    cancel_run(run=run, user=user, specs=SPECS)
    retry_run(run=run, user=user, specs=SPECS)
    assert run.status == Status.RUNNING
    assert (run.cancel_requested_at, run.finished_at) == (None, None)
    assert {name: latest(run, name).attempt for name in statuses(run)} == {"source": 1, "check": 2, "split": 2, "train": 2}
    assert succeed_all() == ["check", "split", "train"]
    run.refresh_from_db()
    assert run.status == Status.SUCCEEDED
    with pytest.raises(Conflict) as refused:
        retry_run(run=run, user=user, specs=SPECS)
    assert refused.value.error_code == "not_retryable"


def test_requeueing_takes_a_node_from_its_worker(user) -> None:
    run = started(user, chain())
    held = claim("cpu", worker="hung")
    following = requeue_node_run(node_run=held, specs=SPECS)
    assert (following.attempt, following.status) == (2, "queued")
    assert succeed(held) == set()
    with pytest.raises(Conflict) as refused:
        requeue_node_run(node_run=held, specs=SPECS)
    assert refused.value.error_code == "not_newest"
    succeed(claim("cpu", worker="w"))
    with pytest.raises(Conflict):
        requeue_node_run(node_run=latest(run, "source"), specs=SPECS)


def test_requeueing_opens_an_ended_run_again_from_that_node(user) -> None:
    run = started(user, chain())
    succeed(claim("cpu", worker="w"))
    cancel_run(run=run, user=user, specs=SPECS)
    with pytest.raises(Conflict, match="needs check, which is canceled"):
        requeue_node_run(node_run=latest(run, "split"), specs=SPECS)
    requeue_node_run(node_run=latest(run, "check"), specs=SPECS)
    run.refresh_from_db()
    assert run.status == Status.RUNNING
    assert succeed_all() == ["check", "split", "train"]
    assert NodeRun.objects.filter(run=run, node="source").count() == 1
