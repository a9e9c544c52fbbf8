"""The catalogue of agents."""

from __future__ import annotations

import pytest

from pipelines import catalog

pytestmark = pytest.mark.django_db


def test_the_catalogue_has_everything_that_a_form_and_a_palette_need(api_client):
    page = api_client.get("/api/v1/agents").json()

    entries = {entry["class"]: entry for entry in page["results"]}
    assert set(entries) == set(catalog.agents())
    training = entries["TrainingAgent"]
    assert training["name"] == "training"
    assert {port["kind"] for port in training["ports"]["inputs"]} >= {"examples"}
    assert training["config_schema"]["properties"]["learning_rate"]["description"]
    assert training["defaults"]["learning_rate"] > 0
    assert (page["next"], page["previous"]) == (None, None)
