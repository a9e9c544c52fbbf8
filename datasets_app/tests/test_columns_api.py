"""Mapping columns over the REST API: of a version, and of a file that was kept as its rows fit no format."""

from __future__ import annotations

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from datasets_app import uploads
from datasets_app.models import Dataset, DatasetVersion, WaitingUpload
from datasets_app.tests.test_api import stored_files
from datasets_app.tests.test_versions_api import rows_of

pytestmark = pytest.mark.django_db

CSV = "frage,antwort,quelle\nWie geht es?,Gut.,a\nWer da?,,b\n"
CHOICE = {"row_format": "prompt_completion", "columns": {"prompt": "frage", "completion": "antwort"}}


def upload(client, content: str = CSV, **fields: object):
    file = SimpleUploadedFile("fragen.csv", content.encode())
    return client.post("/api/v1/datasets/upload", {"file": file, "name": "fragen", "keep": "true", **fields})


def send(client, path: str, **body: object):
    return client.post(f"/api/v1/datasets/{path}", body, format="json")


def test_a_file_of_no_format_is_kept_until_it_is_mapped(api_client, user) -> None:
    before = stored_files()

    answer = upload(api_client)

    body = answer.json()
    assert (answer.status_code, body["code"], body["file_name"]) == (202, "no_row_format", "fragen.csv")
    assert "'frage', 'antwort', 'quelle'" in body["detail"]
    assert not Dataset.objects.exists()
    found = api_client.get(body["links"]["columns"]).json()
    assert (found["row_format"], found["columns"][0]) == (None, {"name": "frage", "type": "text"})
    assert found["raw_rows"][0] == {"row_number": 1, "values": {"frage": "Wie geht es?", "antwort": "Gut.", "quelle": "a"}}

    made = send(api_client, f"uploads/{body['id']}/columns", **CHOICE)

    assert made.status_code == 201, made.json()
    assert (made.json()["name"], made.json()["format"], made.json()["checks"]["fit_rows"]) == ("fragen", "prompt_completion", 1)
    assert made.json()["format_reason"].startswith("Mapped by hand: prompt from 'frage', completion from 'antwort'. Found")
    assert not WaitingUpload.objects.exists()
    assert len(stored_files() - before) == 1
    assert rows_of(DatasetVersion.objects.get())[0] == {"prompt": "Wie geht es?", "completion": "Gut.", "quelle": "a"}


def test_the_same_file_waits_once_and_can_be_discarded(api_client) -> None:
    before = stored_files()

    first, again = upload(api_client).json(), upload(api_client).json()

    assert first["id"] == again["id"]
    assert [item["id"] for item in api_client.get("/api/v1/datasets/uploads").json()["results"]] == [first["id"]]
    assert api_client.delete(f"/api/v1/datasets/uploads/{first['id']}").status_code == 204
    assert api_client.get(f"/api/v1/datasets/uploads/{first['id']}").status_code == 404
    assert stored_files() == before


def test_the_oldest_of_too_many_goes(api_client, monkeypatch) -> None:
    monkeypatch.setattr(uploads, "MAX_WAITING", 2)
    before = stored_files()
    ids = [upload(api_client, f"{CSV}x,y,{number}\n").json()["id"] for number in range(3)]

    assert {str(waiting.pk) for waiting in WaitingUpload.objects.all()} == set(ids[1:])
    assert len(stored_files() - before) == 2


def test_without_keep_and_for_a_file_that_no_mapping_mends_nothing_is_kept(api_client) -> None:
    before = stored_files()

    assert upload(api_client, keep="false").status_code == 400
    assert upload(api_client, "").json()["code"] == "empty_file"
    assert not WaitingUpload.objects.exists()
    assert stored_files() == before


def test_rows_of_which_none_is_fit_can_be_mapped_another_way(api_client) -> None:
    answer = upload(api_client, "prompt,completion,better\nq,,a\n")

    assert (answer.status_code, answer.json()["code"]) == (202, "no_fit_rows")
    columns = {"prompt": "prompt", "completion": "better"}
    made = send(api_client, f"uploads/{answer.json()['id']}/columns", row_format="prompt_completion", columns=columns)
    assert made.json()["checks"]["fit_rows"] == 1


def test_a_choice_is_tried_before_it_is_kept(api_client) -> None:
    waiting = upload(api_client).json()["id"]

    tried = send(api_client, f"uploads/{waiting}/columns/preview", **CHOICE).json()

    assert tried["rows"][0]["messages"] == [
        {"role": "user", "content": "Wie geht es?"}, {"role": "assistant", "content": "Gut."},
    ]  # fmt: skip
    assert [problem["code"] for problem in tried["rows"][1]["problems"]] == ["no_answer"]
    assert not DatasetVersion.objects.exists()


def test_a_version_is_mapped_to_a_new_one_with_lineage(api_client) -> None:
    dataset = upload(api_client, "prompt,completion,context\nq,a,c\n").json()["id"]
    found = api_client.get(f"/api/v1/datasets/{dataset}/columns").json()
    assert (found["row_format"], found["sources"]) == ("prompt_completion", {"prompt": "prompt", "completion": "completion"})
    assert {
        "name": "alpaca",
        "row_format": "alpaca",
        "required": ["instruction", "output"],
        "optional": ["input", "system"],
    } in (found["offers"])
    columns = {"instruction": "prompt", "input": "context", "output": "completion"}

    made = send(api_client, f"{dataset}/columns", version=1, row_format="alpaca", columns=columns)

    body = made.json()
    assert (made.status_code, body["version"], body["parent"], body["format"]) == (201, 2, 1, "alpaca")
    assert body["changes"] == {"row_format": "alpaca", "columns": columns, "rows_before": 1, "rows_after": 1}
    assert rows_of(DatasetVersion.objects.get(number=2)) == [{"instruction": "q", "output": "a", "input": "c"}]
    assert send(api_client, f"{dataset}/columns", version=1, row_format="alpaca", columns=columns).status_code == 200


@pytest.mark.parametrize("path", ["columns", "columns/preview"])
def test_a_choice_that_does_not_fit_is_refused_by_field(api_client, path: str) -> None:
    waiting = upload(api_client).json()["id"]

    answer = send(api_client, f"uploads/{waiting}/{path}", row_format="kto", columns={"messages": "frage", "label": "antwort"})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "columns")
    assert WaitingUpload.objects.count() == 1


def test_a_stranger_sees_no_file_that_waits(api_client, client, other_user) -> None:
    waiting = upload(api_client).json()["id"]
    client.force_login(other_user)

    assert client.get("/api/v1/datasets/uploads").json()["results"] == []
    for path in (f"uploads/{waiting}", f"uploads/{waiting}/columns"):
        assert client.get(f"/api/v1/datasets/{path}").status_code == 404
    answer = client.post(
        f"/api/v1/datasets/uploads/{waiting}/columns/preview", json.dumps(CHOICE), content_type="application/json"
    )
    assert answer.status_code in (403, 404)
    assert WaitingUpload.objects.count() == 1
