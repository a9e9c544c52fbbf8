"""Runs over REST: start, list, look at, cancel, retry."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from pipelines.events import EventLine, append
from pipelines.models import NodeRun, NodeRunOutput, Pipeline, PipelineVersion, Run, Status
from pipelines.tests.factories import ArtifactFactory, NodeRunFactory, RunFactory

pytestmark = pytest.mark.django_db

CSV = "instruction,output\nSay hello.,Hello!\nSay goodbye.,Goodbye!\n"


@pytest.fixture
def graph() -> dict[str, object]:
    """A graph of two nodes over a file that is there."""
    path = Path(settings.VAR_DIR) / "storage" / "datasets" / "training_data.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CSV)
    return {
        "nodes": [
            {
                "agent_name": "dataset",
                "agent_class": "DatasetAgent",
                "config": {"file_path": "s3://datasets/training_data.csv", "format": "csv"},
                "ui": {"x": 10, "anything": ["is", "kept"]},
            },
            {"agent_name": "validation", "agent_class": "ValidationAgent", "config": {}},
        ],
        "edges": [{"from_agent": "dataset", "to_agent": "validation"}],
    }


class TestStart:
    def test_a_graph_becomes_a_run(self, api_client, graph, user):
        answer = api_client.post("/api/v1/jobs", graph | {"run_id": "abc123", "name": "first"}, format="json")

        assert answer.status_code == 201, answer.content
        body = answer.json()
        run = Run.objects.get(owner=user)
        assert body["id"] == str(run.id)
        assert body["run_id"] == "abc123"
        assert body["status"] == "queued"
        assert body["links"]["self"] == answer["Location"] == f"http://testserver/api/v1/jobs/{run.id}"
        assert api_client.get(body["links"]["history"]).json()["results"][0]["type"] == "status"
        assert [node["status"] for node in api_client.get("/api/v1/jobs/abc123").json()["nodes"]] == ["queued", "pending"]

    def test_without_a_name_of_the_clients_the_run_is_known_by_its_id(self, api_client, graph):
        body = api_client.post("/api/v1/jobs", graph, format="json").json()

        assert body["run_id"] == body["id"]

    def test_a_second_run_of_the_same_name_is_a_conflict(self, api_client, graph):
        api_client.post("/api/v1/jobs", graph | {"run_id": "abc123"}, format="json")

        answer = api_client.post("/api/v1/jobs", graph | {"run_id": "abc123"}, format="json")

        assert answer.status_code == 409
        assert answer.json()["code"] == "run_id_taken"
        assert Run.objects.count() == 1

    def test_an_idempotency_key_starts_one_run(self, api_client, graph):
        headers = {"Idempotency-Key": "once"}
        first = api_client.post("/api/v1/jobs", graph, format="json", headers=headers)
        second = api_client.post("/api/v1/jobs", graph, format="json", headers=headers)
        other = api_client.post("/api/v1/jobs", graph | {"name": "x"}, format="json", headers=headers)

        assert (first.status_code, second.status_code, other.status_code) == (201, 201, 409)
        assert first.json()["id"] == second.json()["id"]

    def test_a_stored_pipeline_runs_in_the_version_asked_for(self, api_client, graph, user):
        pipeline = Pipeline.objects.create(owner=user, name="nightly", draft=graph)
        versions = [
            PipelineVersion.objects.create(owner=user, pipeline=pipeline, number=number, graph=graph, sha256=str(number))
            for number in (1, 2)
        ]

        newest = api_client.post("/api/v1/jobs", {"pipeline": str(pipeline.id)}, format="json")
        first = api_client.post("/api/v1/jobs", {"pipeline": str(pipeline.id), "version": 1}, format="json")
        missing = api_client.post("/api/v1/jobs", {"pipeline": str(pipeline.id), "version": 3}, format="json")

        assert Run.objects.get(pk=newest.json()["id"]).version == versions[1]
        assert Run.objects.get(pk=first.json()["id"]).version == versions[0]
        assert missing.status_code == 404

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, None),
            ({"nodes": [], "pipeline": str(uuid.uuid4())}, None),
            ({"nodes": [], "version": 1}, "version"),
            ({"pipeline": "not a uuid"}, "pipeline"),
            ({"nodes": [], "run_id": "has spaces"}, "run_id"),
            ({"nodes": [], "run_id": "x" * 65}, "run_id"),
            ({"nodes": [], "nonsense": 1}, "nonsense"),
            ({"nodes": [], "name": "x" * 201}, "name"),
        ],
    )
    def test_a_body_of_the_wrong_shape_is_refused_by_field(self, api_client, body, field):
        answer = api_client.post("/api/v1/jobs", body, format="json")

        assert answer.status_code == 400
        assert [problem["field"] for problem in answer.json()["errors"]] == [field]

    def test_problems_of_the_graph_come_by_node_and_field(self, api_client, graph):
        graph["nodes"][0]["config"]["nonsense"] = 1
        graph["nodes"][1]["agent_class"] = "NoSuchAgent"

        answer = api_client.post("/api/v1/jobs", graph, format="json")

        assert answer.status_code == 400
        places = [(problem["node"], problem["field"]) for problem in answer.json()["errors"]]
        assert ("dataset", "nonsense") in places
        assert any(node == "validation" for node, _ in places)
        assert not Run.objects.exists()

    @pytest.mark.parametrize("nodes", ["text", 5, None, [1], [[]], {"a": 1}])
    def test_nodes_that_are_no_nodes_are_refused(self, api_client, nodes):
        answer = api_client.post("/api/v1/jobs", {"nodes": nodes, "edges": nodes}, format="json")

        assert answer.status_code == 400
        assert set(answer.json()) == {"code", "detail", "errors"}

    @pytest.mark.parametrize("text", [r"\u0000", r"\ud800", "1e999", "9" * 5000, "[" * 5000 + "]" * 5000])
    @pytest.mark.parametrize("place", ["ui", "config", "agent_name", "parameters"])
    def test_json_that_postgresql_cannot_keep_is_refused(self, api_client, graph, text, place):
        value = text if text[0] in "19[" else f'"{text}"'
        document = json.dumps(graph | {"parameters": {"dataset.format": "MARK"}} if place == "parameters" else graph)
        old = {"ui": '"kept"', "config": '"csv"', "agent_name": '"validation"', "parameters": '"MARK"'}[place]

        answer = api_client.post("/api/v1/jobs", document.replace(old, value, 1), content_type="application/json")

        assert answer.status_code == 400, answer.content[:500]
        assert set(answer.json()) == {"code", "detail", "errors"}

    def test_a_backslash_before_u0000_is_text(self, api_client, graph):
        graph["nodes"][0]["ui"] = {"note": "\\u0000"}

        job = api_client.post("/api/v1/jobs", graph, format="json")

        assert job.status_code == 201, job.content
        assert Run.objects.get().version.graph["nodes"][0]["ui"] == {"note": "\\u0000"}

    def test_an_endless_idempotency_key_is_refused(self, api_client, graph):
        answer = api_client.post("/api/v1/jobs", graph, format="json", headers={"Idempotency-Key": "x" * 201})

        assert answer.status_code == 400
        assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


class TestLook:
    def test_a_job_shows_the_newest_attempt_of_each_node_in_order(self, api_client, user):
        run = RunFactory(owner=user, name="tune")
        NodeRunFactory(run=run, node="training", attempt=1, status=Status.FAILED, error_kind="resource", error_code="oom")
        training = NodeRunFactory(run=run, node="training", attempt=2)
        dataset = NodeRunFactory(run=run, node="dataset", agent="DatasetAgent", status=Status.SUCCEEDED, cached=True)
        artifact = ArtifactFactory(owner=user, kind="dataset", size_bytes=9)
        NodeRunOutput.objects.create(node_run=dataset, port="dataset", artifact=artifact)

        job = api_client.get(f"/api/v1/jobs/{run.id}").json()

        assert job["error"] is None
        assert [(node["name"], node["attempt"], node["cached"]) for node in job["nodes"]] == [
            ("dataset", 1, True),
            ("training", training.attempt, False),
        ]
        assert job["nodes"][0]["outputs"] == [
            {"port": "dataset", "kind": "dataset", "id": str(artifact.id), "sha256": artifact.sha256, "size_bytes": 9}
        ]
        assert job["created_at"].endswith("Z")

    def test_errors_say_kind_code_message_and_place(self, api_client, user):
        error = {"error_kind": "user", "error_code": "invalid_rows", "error_message": "row 3 is empty"}
        run = RunFactory(owner=user, status=Status.FAILED, error_node="training", **error)
        NodeRunFactory(run=run, status=Status.FAILED, error_field="file_path", error_evidence={"row": 3}, **error)

        job = api_client.get(f"/api/v1/jobs/{run.id}").json()

        shown = {"kind": "user", "code": "invalid_rows", "message": "row 3 is empty"}
        assert job["error"] == shown | {"node": "training"}
        assert job["nodes"][0]["error"] == shown | {"field": "file_path", "evidence": {"row": 3}}

    def test_an_id_wins_over_an_equal_name(self, api_client, user):
        run = RunFactory(owner=user)
        other = RunFactory(owner=user, client_run_id=str(run.id))

        assert api_client.get(f"/api/v1/jobs/{run.id}").json()["id"] == str(run.id)
        assert api_client.get(f"/api/v1/jobs/{other.id}").json()["id"] == str(other.id)

    @pytest.mark.parametrize("suffix", ["", "/progress", "/metrics"])
    @pytest.mark.parametrize("reference", ["id", "client_run_id"])
    def test_a_strangers_job_is_not_there(self, api_client, other_user, suffix, reference):
        stranger = RunFactory(owner=other_user, client_run_id="theirs")

        answer = api_client.get(f"/api/v1/jobs/{getattr(stranger, reference)}{suffix}")

        assert answer.status_code == 404
        assert answer.json()["code"] == "not_found"

    def test_two_owners_may_use_one_name(self, api_client, user, other_user):
        RunFactory(owner=other_user, client_run_id="same")
        own = RunFactory(owner=user, client_run_id="same")

        assert api_client.get("/api/v1/jobs/same").json()["id"] == str(own.id)


class TestList:
    def test_pages_are_newest_first_and_complete(self, api_client, user, other_user):
        runs = [RunFactory(owner=user) for _ in range(5)]
        RunFactory(owner=other_user)

        seen, url = [], "/api/v1/jobs?limit=2"
        while url:
            page = api_client.get(url).json()
            assert list(page) == ["results", "next", "previous"]
            seen += [job["id"] for job in page["results"]]
            url = page["next"]

        assert seen == [str(run.id) for run in reversed(runs)]

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ("status=failed", {"b"}),
            ("status=failed&status=running", {"a", "b"}),
            ("search=A", {"a"}),
            ("search=client-b", {"b"}),
            ("search=none", set()),
        ],
    )
    def test_filters(self, api_client, user, query, names):
        RunFactory(owner=user, name="a")
        RunFactory(owner=user, name="b", status=Status.FAILED, client_run_id="client-b")

        assert {job["name"] for job in api_client.get(f"/api/v1/jobs?{query}").json()["results"]} == names

    def test_an_unknown_status_is_refused(self, api_client):
        assert api_client.get("/api/v1/jobs?status=done").status_code == 400

    def test_the_number_of_queries_does_not_grow_with_the_page(self, api_client, user, django_assert_max_num_queries):
        for _ in range(6):
            NodeRunFactory(run=RunFactory(owner=user))

        with django_assert_max_num_queries(8):
            api_client.get("/api/v1/jobs")


class TestProgress:
    def test_fractions_and_the_time_left_come_from_the_last_steps(self, api_client, user):
        run = RunFactory(owner=user)
        NodeRunFactory(run=run, node="dataset", status=Status.SUCCEEDED)
        resumed = {"attempt": 2, "fraction": 0.5, "step": 50, "total_steps": 100, "metrics": {"loss": 1.5}}
        NodeRunFactory(run=run, started_at=timezone.now() - timedelta(seconds=5), **resumed)
        begun = timezone.now() - timedelta(seconds=20)
        steps = [(40 + count, begun + timedelta(seconds=2 * count)) for count in range(11)]
        line = EventLine(type="metric", node="training", attempt=2, message="m")
        append(run.id, [replace(line, step=step, timestamp=when) for step, when in steps])

        progress = api_client.get(f"/api/v1/jobs/{run.id}/progress").json()

        assert progress["fraction"] == 0.75
        assert progress["eta_seconds"] == 100.0
        assert progress["nodes"][1] == {
            "name": "training", "status": "running", "fraction": 0.5, "step": 50, "total_steps": 100, "metrics": {"loss": 1.5},
        }  # fmt: skip

    def test_without_steps_the_elapsed_time_is_the_measure(self, api_client, user):
        run = RunFactory(owner=user)
        NodeRunFactory(run=run, fraction=0.25, started_at=timezone.now() - timedelta(seconds=10))

        assert api_client.get(f"/api/v1/jobs/{run.id}/progress").json()["eta_seconds"] == pytest.approx(30, abs=2)

    def test_nothing_is_guessed_where_nothing_is_known(self, api_client, user):
        run = RunFactory(owner=user)
        NodeRunFactory(run=run, status=Status.QUEUED, started_at=None)

        progress = api_client.get(f"/api/v1/jobs/{run.id}/progress").json()

        assert (progress["fraction"], progress["eta_seconds"]) == (0.0, None)


class TestChange:
    def test_cancel_is_accepted(self, api_client, graph):
        job = api_client.post("/api/v1/jobs", graph, format="json").json()

        answer = api_client.delete(f"/api/v1/jobs/{job['id']}")

        assert answer.status_code == 202
        assert answer.json()["status"] in ("canceling", "canceled")
        assert set(NodeRun.objects.values_list("status", flat=True)) == {"canceled"}

    def test_a_canceled_run_can_be_retried_and_a_running_one_cannot(self, api_client, graph):
        job = api_client.post("/api/v1/jobs", graph, format="json").json()

        too_early = api_client.post(f"/api/v1/jobs/{job['id']}/retry")
        api_client.delete(f"/api/v1/jobs/{job['id']}")
        again = api_client.post(f"/api/v1/jobs/{job['id']}/retry")

        assert (too_early.status_code, again.status_code) == (409, 202)
        assert again.json()["status"] == "running"

    def test_an_ended_run_cannot_be_canceled(self, api_client, user):
        run = RunFactory(owner=user, status=Status.SUCCEEDED)

        assert api_client.delete(f"/api/v1/jobs/{run.id}").status_code == 409

    def test_strangers_change_nothing(self, api_client, other_user):
        run = RunFactory(owner=other_user)

        assert api_client.delete(f"/api/v1/jobs/{run.id}").status_code == 404
        assert api_client.post(f"/api/v1/jobs/{run.id}/retry").status_code == 404
        run.refresh_from_db()
        assert run.status == Status.RUNNING
