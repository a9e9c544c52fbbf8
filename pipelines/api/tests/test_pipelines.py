"""Pipelines over REST: drafts that lose no edit, immutable versions, validation and the gallery."""

from __future__ import annotations

import threading

import pytest
from django.db import connection
from rest_framework.test import APIClient

from pipelines.drafts import MAX_DRAFT_BYTES
from pipelines.models import Pipeline, PipelineVersion, Run
from pipelines.services import start_run

pytestmark = pytest.mark.django_db

DATASET = {"agent_name": "dataset", "agent_class": "DatasetAgent", "config": {"file_path": "example:orders"}}
VALIDATION = {"agent_name": "validation", "agent_class": "ValidationAgent", "config": {}}
GRAPH = {"nodes": [DATASET, VALIDATION], "edges": [{"from_agent": "dataset", "to_agent": "validation"}]}


@pytest.fixture
def pipeline(api_client) -> dict:
    answer = api_client.post("/api/v1/pipelines", {"name": "nightly", "draft": GRAPH}, format="json")
    assert answer.status_code == 201, answer.content
    return answer.json()


def save(client: APIClient, pipeline: dict, **body: object):
    return client.put(f"/api/v1/pipelines/{pipeline['id']}", body, format="json")


def moved(x: int) -> dict:
    return {**GRAPH, "nodes": [{**DATASET, "ui": {"x": x}}, VALIDATION]}


class TestDrafts:
    def test_a_pipeline_is_made_listed_and_shown(self, api_client, pipeline) -> None:
        assert (pipeline["edit_number"], pipeline["nodes"], pipeline["versions"]) == (1, 2, 0)
        (listed,) = api_client.get("/api/v1/pipelines").json()["results"]
        assert listed == {key: value for key, value in pipeline.items() if key != "draft"}
        assert api_client.get(f"/api/v1/pipelines/{pipeline['id']}").json()["draft"] == GRAPH

    def test_what_is_unfinished_is_kept_as_it_is(self, api_client, pipeline) -> None:
        draft = {
            "nodes": [
                {"agent_name": "a", "agent_class": "AgentOfAnotherInstallation", "config": {"x": None}, "ui": {"x": 1.5}},
                {"agent_name": "a", "agent_class": "TrainingAgent", "config": {"lora_r": -1}},
            ],
            "edges": [{"from_agent": "a", "to_agent": "nowhere", "ui": {"color": "red"}}],
            "ui": {"notes": [{"text": "später ✎"}]},
        }
        answer = save(api_client, pipeline, edit_number=1, draft=draft)
        assert answer.status_code == 200, answer.content
        assert answer.json()["draft"] == draft
        assert answer.json()["edit_number"] == 2

    @pytest.mark.parametrize(
        ("draft", "code"),
        [
            ({"nodes": "none"}, "invalid_shape"),
            ({"nodes": [{"agent_name": "no spaces", "agent_class": "A"}]}, "invalid_name"),
            ({"nodes": [], "edges": [], "code": "import os"}, "unknown_key"),
            ([], "invalid_shape"),
        ],
        ids=["no list", "bad name", "unknown key", "no object"],
    )
    def test_what_is_no_pipeline_is_refused_and_changes_nothing(self, api_client, pipeline, draft, code) -> None:
        answer = save(api_client, pipeline, edit_number=1, draft=draft)
        assert answer.status_code == 400
        assert code in {error["code"] for error in answer.json()["errors"]}
        assert api_client.get(f"/api/v1/pipelines/{pipeline['id']}").json() == pipeline

    def test_a_draft_has_a_size_limit(self, api_client, pipeline) -> None:
        nodes = [{**DATASET, "agent_name": f"n{number}", "ui": {"note": "x" * 60_000}} for number in range(140)]
        answer = save(api_client, pipeline, edit_number=1, draft={"nodes": nodes, "edges": []})
        assert answer.status_code == 400
        assert str(MAX_DRAFT_BYTES) in answer.json()["detail"]

    def test_the_second_writer_is_told_what_is_there_and_nothing_is_overwritten(self, api_client, pipeline) -> None:
        assert save(api_client, pipeline, edit_number=1, draft=moved(10)).json()["edit_number"] == 2
        answer = save(api_client, pipeline, edit_number=1, draft=moved(99))
        assert answer.status_code == 409
        body = answer.json()
        assert (body["code"], body["current"]["edit_number"], body["current"]["draft"]) == ("stale_edit", 2, moved(10))
        assert save(api_client, pipeline, edit_number=2, draft=moved(99)).json()["edit_number"] == 3

    def test_an_edit_sent_again_after_a_lost_answer_is_the_success_it_was(self, api_client, pipeline) -> None:
        for _ in range(3):
            assert save(api_client, pipeline, edit_number=1, draft=moved(10)).json()["edit_number"] == 2

    def test_a_name_alone_can_be_changed(self, api_client, pipeline) -> None:
        answer = save(api_client, pipeline, edit_number=1, name=" weekly ", description="every Monday").json()
        assert (answer["name"], answer["description"], answer["draft"]) == ("weekly", "every Monday", GRAPH)

    def test_a_stranger_finds_nothing(self, pipeline, other_user) -> None:
        client = APIClient()
        client.force_authenticate(other_user)
        assert client.get(f"/api/v1/pipelines/{pipeline['id']}").status_code == 404
        assert save(client, pipeline, edit_number=1, name="mine").status_code == 404
        assert client.get(f"/api/v1/pipelines/{pipeline['id']}/versions").status_code == 404
        assert client.get("/api/v1/pipelines").json()["results"] == []

    def test_a_pipeline_thrown_away_leaves_its_runs(self, api_client, pipeline, user) -> None:
        version = freeze(api_client, pipeline).json()
        start_run(user=user, version=PipelineVersion.objects.get(pk=version["id"]))
        assert api_client.delete(f"/api/v1/pipelines/{pipeline['id']}").status_code == 204
        assert api_client.get(f"/api/v1/pipelines/{pipeline['id']}").status_code == 404
        assert api_client.get("/api/v1/pipelines").json()["results"] == []
        assert Run.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_writers_at_once_one_wins_each_number_and_the_others_are_told(user) -> None:
    pipeline = Pipeline.objects.create(owner=user, name="shared", draft=GRAPH)
    answers: list[int] = []

    def write(number: int) -> None:
        client = APIClient()
        client.force_authenticate(user)
        answers.append(save(client, {"id": pipeline.pk}, edit_number=1, draft=moved(number)).status_code)
        connection.close()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(answers) == [200, 409, 409, 409, 409, 409]
    pipeline.refresh_from_db()
    assert pipeline.edit_number == 2


def freeze(client: APIClient, pipeline: dict, **body: object):
    return client.post(f"/api/v1/pipelines/{pipeline['id']}/versions", {"edit_number": 1, **body}, format="json")


class TestVersions:
    def test_a_draft_is_frozen_once_with_complete_configs(self, api_client, pipeline) -> None:
        answer = freeze(api_client, pipeline, name="first good one")
        assert answer.status_code == 201, answer.content
        version = answer.json()
        assert (version["number"], version["name"]) == (1, "first good one")
        assert version["graph"]["edges"][0]["from_port"] == "dataset"
        assert version["graph"]["nodes"][0]["config"]["format"] == "auto"
        assert freeze(api_client, pipeline).json()["id"] == version["id"]
        address = f"/api/v1/pipelines/{pipeline['id']}/versions"
        assert [row["number"] for row in api_client.get(address).json()["results"]] == [1]
        assert api_client.get(f"{address}/1").json() == version
        assert api_client.get(f"{address}/2").status_code == 404

    def test_a_version_runs(self, api_client, pipeline) -> None:
        freeze(api_client, pipeline)
        answer = api_client.post("/api/v1/jobs", {"pipeline": pipeline["id"], "version": 1}, format="json")
        assert answer.status_code == 201, answer.content

    def test_what_cannot_run_is_not_frozen(self, api_client, pipeline) -> None:
        save(api_client, pipeline, edit_number=1, draft={"nodes": [VALIDATION], "edges": []})
        answer = freeze(api_client, pipeline, edit_number=2)
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["node"] == "validation"
        assert not PipelineVersion.objects.exists()

    def test_another_draft_than_the_one_meant_is_not_frozen(self, api_client, pipeline) -> None:
        save(api_client, pipeline, edit_number=1, draft=moved(10))
        answer = freeze(api_client, pipeline)
        assert (answer.status_code, answer.json()["code"]) == (409, "stale_edit")
        assert not PipelineVersion.objects.exists()


class TestValidation:
    def test_a_graph_that_can_run_has_no_problems(self, api_client) -> None:
        assert api_client.post("/api/v1/pipelines/validate", GRAPH, format="json").json() == {"problems": []}

    def test_every_problem_comes_with_node_and_field(self, api_client) -> None:
        graph = {"nodes": [{**DATASET, "config": {"limit": 0}}, VALIDATION], "edges": []}
        answer = api_client.post("/api/v1/pipelines/validate", graph, format="json")
        assert answer.status_code == 200
        found = {(problem["node"], problem["field"]) for problem in answer.json()["problems"]}
        assert found == {("dataset", "file_path"), ("dataset", "limit"), ("validation", "dataset")}

    def test_nothing_is_stored(self, api_client) -> None:
        api_client.post("/api/v1/pipelines/validate", GRAPH, format="json")
        assert not Pipeline.objects.exists()
        assert not PipelineVersion.objects.exists()


class TestGallery:
    def test_each_template_can_run_as_it_is(self, api_client) -> None:
        templates = api_client.get("/api/v1/pipelines/templates").json()
        assert len(templates) >= 6
        assert len({template["name"] for template in templates}) == len(templates)
        for template in templates:
            answer = api_client.post("/api/v1/pipelines/validate", template["graph"], format="json")
            assert answer.json() == {"problems": []}, template["name"]

    def test_no_two_nodes_of_a_template_lie_on_each_other(self, api_client) -> None:
        for template in api_client.get("/api/v1/pipelines/templates").json():
            places = [(node["ui"]["x"], node["ui"]["y"]) for node in template["graph"]["nodes"]]
            assert len(set(places)) == len(places)
