"""Tokens and near duplicates over the REST API, measured by a real process."""

from __future__ import annotations

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from datasets_app import measuring
from datasets_app.models import DatasetVersion, Measurement, PairDecision
from datasets_app.tests.test_versions_api import rows_of

pytestmark = pytest.mark.django_db

LONG = "Please write me a poem about the sea, the stars and everything that lies between them, in four lines."
ROWS = [
    {"prompt": LONG, "completion": "ok"},
    {"prompt": "two large lattes", "completion": "2 x latte"},
    {"prompt": f"{LONG[:-1]}!", "completion": "ok"},
    {"prompt": f"{LONG[:-1]}?", "completion": "ok"},
]


@pytest.fixture
def dataset(api_client) -> str:
    content = "".join(f"{json.dumps(row)}\n" for row in ROWS).encode()
    answer = api_client.post("/api/v1/datasets/upload", {"file": SimpleUploadedFile("rows.jsonl", content), "name": "rows"})
    return f"/api/v1/datasets/{answer.json()['id']}"


def test_tokens_are_counted_once_and_kept(api_client, dataset: str, local_model: str) -> None:
    assert api_client.get(f"{dataset}/token-lengths").json() == []

    body = api_client.post(f"{dataset}/token-lengths", {"model": local_model}, format="json").json()

    expected = [len(row["prompt"]) + len(row["completion"]) for row in ROWS]  # the tokenizer has a token a byte
    assert (body["sample"], body["rows"], body["tokens"], body["longest"]) == ("all", 4, sum(expected), max(expected))
    assert (body["model"], body["version"], body["longest_row"]) == (local_model, 1, 1)
    assert sum(body["histogram_rows"]) == 4
    assert api_client.get(f"{dataset}/token-lengths").json() == [body]
    assert api_client.post(f"{dataset}/token-lengths", {"model": local_model}, format="json").json() == body
    assert Measurement.objects.count() == 1
    again = api_client.post(f"{dataset}/token-lengths", {"model": local_model, "recount": True}, format="json").json()
    assert again["tokens"] == body["tokens"]


def test_a_model_that_is_not_there_is_refused_by_field(api_client, dataset: str) -> None:
    answer = api_client.post(f"{dataset}/token-lengths", {"model": "local:nothing"}, format="json")

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "model")
    assert not Measurement.objects.exists()


def test_pairs_are_shown_with_what_differs(api_client, dataset: str) -> None:
    body = api_client.get(f"{dataset}/duplicates?limit=1").json()

    assert (body["version"], body["compared_rows"], body["pairs_total"]) == (1, 4, 2)
    assert body["counts"] == {"undecided": 2, "keep_both": 0, "drop_second": 0, "drop_first": 0}
    (pair,) = body["pairs"]
    assert (pair["first"], pair["second"], pair["decision"]) == (1, 3, None)
    assert 0.8 <= pair["similarity"] < 1
    assert [text for text, differs in pair["second_text"] if differs] == ["!"]
    assert "".join(text for text, _ in pair["first_text"]) == f"user: {LONG}\nassistant: ok"


def test_decisions_are_kept_and_become_a_version_with_lineage(api_client, dataset: str) -> None:
    decided = [{"first": 1, "second": 3, "decision": "drop_first"}]
    assert api_client.post(f"{dataset}/duplicates/decisions", {"decisions": decided}, format="json").status_code == 204
    assert api_client.post(f"{dataset}/duplicates/decisions", {"rest": "drop_second"}, format="json").status_code == 204
    body = api_client.get(f"{dataset}/duplicates?state=drop_second").json()
    assert [(pair["first"], pair["second"]) for pair in body["pairs"]] == [(1, 4)]

    made = api_client.post(f"{dataset}/duplicates/apply", {"version": 1}, format="json")

    body = made.json()
    assert (made.status_code, body["version"], body["parent"], body["rows"]) == (201, 2, 1, 2)
    assert body["changes"]["fixes"] == [{"code": "near_duplicate", "action": "drop", "rows": 2, "row_numbers": [1, 4]}]
    assert rows_of(DatasetVersion.objects.get(number=2)) == [ROWS[1], ROWS[2]]
    assert api_client.post(f"{dataset}/duplicates/apply", {"version": 1}, format="json").status_code == 200
    assert rows_of(DatasetVersion.objects.get(number=1)) == ROWS


def test_a_decision_can_be_taken_back_and_nothing_is_made_without_one(api_client, dataset: str) -> None:
    for decision in ("drop_second", None):
        body = {"decisions": [{"first": 1, "second": 3, "decision": decision}]}
        assert api_client.post(f"{dataset}/duplicates/decisions", body, format="json").status_code == 204

    assert not PairDecision.objects.exists()
    answer = api_client.post(f"{dataset}/duplicates/apply", {}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (400, "nothing_to_drop")


def test_rows_that_are_no_pair_cannot_be_decided_on(api_client, dataset: str) -> None:
    body = {"decisions": [{"first": 1, "second": 2, "decision": "drop_second"}]}

    answer = api_client.post(f"{dataset}/duplicates/decisions", body, format="json")

    assert (answer.status_code, answer.json()["code"]) == (400, "no_pair")


def test_a_process_that_takes_too_long_is_ended_and_said(api_client, dataset: str, monkeypatch) -> None:
    monkeypatch.setattr(measuring, "MEASURE_SECONDS", 0.01)

    answer = api_client.get(f"{dataset}/duplicates")

    assert (answer.status_code, answer.json()["code"]) == (503, "measuring_too_slow")
    monkeypatch.undo()
    assert api_client.get(f"{dataset}/duplicates").status_code == 200


def test_a_stranger_sees_nothing(client, dataset: str, other_user) -> None:
    client.force_login(other_user)

    for path in ("token-lengths", "duplicates"):
        assert client.get(f"{dataset}/{path}").status_code == 404
