"""Artifacts and where they come from."""

from __future__ import annotations

import pytest

from pipelines.tests.factories import ArtifactFactory, NodeRunFactory, RunFactory

pytestmark = pytest.mark.django_db


def test_lineage_goes_up_and_down_but_not_to_strangers(api_client, user, other_user):
    node_run = NodeRunFactory(run=RunFactory(owner=user))
    rows = ArtifactFactory(owner=user, kind="dataset", name="rows")
    model = ArtifactFactory(owner=user, kind="model", name="adapter", node_run=node_run, port="model", metadata={"a": 1})
    report = ArtifactFactory(owner=user, kind="report", name="report.json")
    model.parents.add(rows)
    report.parents.add(model)
    ArtifactFactory(owner=other_user).parents.add(model)

    shown = api_client.get(f"/api/v1/artifacts/{model.id}").json()

    assert [item["id"] for item in shown["parents"]] == [str(rows.id)]
    assert [item["id"] for item in shown["children"]] == [str(report.id)]
    assert shown["made_by"] == {"run_id": str(node_run.run_id), "node": "training", "agent": "TrainingAgent", "attempt": 1}
    assert shown["metadata"] == {"a": 1}
    assert shown["download"] == f"http://testserver/api/v1/artifacts/{model.id}/download"


@pytest.mark.parametrize("id", ["00000000-0000-0000-0000-000000000000", "not-an-id"])
def test_what_does_not_exist_is_404_in_the_usual_shape(api_client, id):
    answer = api_client.get(f"/api/v1/artifacts/{id}")

    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"
