"""Fixes, lineage and differences of versions over the REST API, against PostgreSQL and a real store."""

from __future__ import annotations

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from datasets_app.models import DatasetVersion
from datasets_app.tests.factories import DatasetVersionFactory
from platform_site.common import store

pytestmark = pytest.mark.django_db

MAIL = "ada@example.org"
ROWS = [
    {"prompt": "a\x07", "completion": "b"},
    {"prompt": "who", "completion": f"mail {MAIL}"},
    {"prompt": "c", "completion": ""},
    {"prompt": "who", "completion": f"mail {MAIL}"},
]


@pytest.fixture
def dataset_id(api_client) -> str:
    content = "".join(f"{json.dumps(row)}\n" for row in ROWS).encode()
    answer = api_client.post("/api/v1/datasets/upload", {"file": SimpleUploadedFile("rows.jsonl", content), "name": "rows"})
    assert answer.status_code == 201, answer.json()
    return answer.json()["id"]


def fix(client, dataset_id: str, **body: object):
    return client.post(f"/api/v1/datasets/{dataset_id}/fixes", body, format="json")


def rows_of(version: DatasetVersion) -> list[dict]:
    with store.open_stored(version.uri) as file:
        return [json.loads(line) for line in file.read().splitlines()]


def test_the_report_proposes_what_can_be_fixed(api_client, dataset_id: str) -> None:
    body = api_client.get(f"/api/v1/datasets/{dataset_id}/fixes").json()

    assert body["version"] == 1
    assert [(item["code"], item["action"], item["rows"], item["is_suggested"]) for item in body["fixes"]] == [
        ("no_answer", "drop", 1, True),
        ("control_characters", "strip", 1, True),
        ("duplicate_row", "drop", 1, True),
        ("email_address", "mask", 2, True),
    ]
    assert all(item["meaning"] for item in body["fixes"])


def test_one_call_makes_a_fixed_version_and_leaves_the_other_as_it_is(api_client, dataset_id: str) -> None:
    before = rows_of(DatasetVersion.objects.get(dataset=dataset_id))

    answer = fix(api_client, dataset_id)

    assert answer.status_code == 201, answer.json()
    body = answer.json()
    assert (body["version"], body["parent"], body["rows"], body["reference"]) == (2, 1, 2, f"dataset:{dataset_id}@2")
    assert body["changes"]["rows_before"], body["changes"]["rows_after"] == (4, 2)
    assert {item["code"]: (item["action"], item["row_numbers"]) for item in body["changes"]["fixes"]} == {
        "no_answer": ("drop", [3]),
        "control_characters": ("strip", [1]),
        "duplicate_row": ("drop", [4]),
        "email_address": ("mask", [2, 4]),
    }
    first, second = DatasetVersion.objects.filter(dataset=dataset_id).order_by("number")
    assert rows_of(first) == before
    assert rows_of(second) == [{"prompt": "a", "completion": "b"}, {"prompt": "who", "completion": "mail [EMAIL]"}]
    assert second.report["summary"]["fit_rows"] == 2
    assert second.report["data"]["counts"] == []


def test_only_the_codes_that_are_named_are_applied(api_client, dataset_id: str) -> None:
    body = fix(api_client, dataset_id, version=1, codes=["email_address"]).json()

    assert [item["code"] for item in body["changes"]["fixes"]] == ["email_address"]
    written = rows_of(DatasetVersion.objects.get(number=2))
    assert [row["completion"] for row in written] == ["b", "mail [EMAIL]", "", "mail [EMAIL]"]


def test_the_same_fixes_again_are_the_version_that_exists(api_client, dataset_id: str) -> None:
    first = fix(api_client, dataset_id, version=1)

    again = fix(api_client, dataset_id, version=1)

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert DatasetVersion.objects.count() == 2


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"version": 2}, "nothing_to_fix"),
        ({"version": 2, "codes": ["mojibake"]}, "nothing_to_fix"),
        ({"codes": ["identical_answer"]}, "invalid_input"),
        ({"codes": []}, "invalid_input"),
    ],
)
def test_what_cannot_be_fixed_is_refused_and_makes_nothing(api_client, dataset_id: str, body: dict, code: str) -> None:
    fix(api_client, dataset_id)

    answer = fix(api_client, dataset_id, **body)

    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert DatasetVersion.objects.count() == 2


def test_versions_are_listed_with_lineage_and_statistics(api_client, dataset_id: str) -> None:
    fix(api_client, dataset_id)

    newest, first = api_client.get(f"/api/v1/datasets/{dataset_id}").json()["versions"]

    assert (newest["parent"], first["parent"], first["changes"]) == (1, None, {})
    assert first["statistics"]["problems"]["email_address"] == 2
    assert (first["statistics"]["duplicate_rows"], newest["statistics"]["duplicate_rows"]) == (1, 0)
    assert sum(newest["statistics"]["length_histogram"]["rows"]) == 2
    assert MAIL not in json.dumps([first["statistics"], first["changes"]])


def test_two_versions_are_compared(api_client, dataset_id: str) -> None:
    fix(api_client, dataset_id)

    body = api_client.get(f"/api/v1/datasets/{dataset_id}/diff").json()

    assert (body["before"], body["after"], body["columns"], body["formats"]) == (1, 2, [], [])
    rows = body["rows"]
    assert (rows["unchanged"], rows["added"], rows["removed"], rows["changed"]) == (0, 0, 2, 2)
    assert rows["changed_rows"][0] == {
        "before_number": 1, "after_number": 1, "before": {"prompt": "a\x07"}, "after": {"prompt": "a"},
        "marks": {"prompt": {"before": [["a", False], ["\x07", True]], "after": [["a", False]]}},
    }  # fmt: skip
    assert [row["before_number"] for row in rows["removed_rows"]] == [3, 4]
    back = api_client.get(f"/api/v1/datasets/{dataset_id}/diff?from=2&to=1&samples=0").json()["rows"]
    assert (back["added"], back["added_rows"]) == (2, [])


def test_columns_and_formats_that_differ_are_named(api_client, dataset_id: str) -> None:
    upload = SimpleUploadedFile("rows.csv", b"instruction,output,note\na,b,c\n")
    api_client.post("/api/v1/datasets/upload", {"file": upload, "name": "rows"})

    body = api_client.get(f"/api/v1/datasets/{dataset_id}/diff?from=1&to=2").json()

    assert body["formats"] == [
        {"name": "format", "before": "prompt_completion", "after": "alpaca"},
        {"name": "file_format", "before": "jsonl", "after": "csv"},
    ]
    assert {item["name"]: (item["before"], item["after"]) for item in body["columns"]} == {
        "prompt": ("text", None), "completion": ("text", None), "instruction": (None, "text"), "output": (None, "text"),
        "note": (None, "text"),
    }  # fmt: skip


@pytest.mark.parametrize("query", ["", "?from=1&to=9", "?from=9"])
def test_a_version_that_is_not_there_answers_404(api_client, dataset_id: str, query: str) -> None:
    assert api_client.get(f"/api/v1/datasets/{dataset_id}/diff{query}").status_code == 404


def test_a_strangers_dataset_answers_404(api_client, other_user) -> None:
    theirs = DatasetVersionFactory(dataset__owner=other_user).dataset_id

    assert api_client.get(f"/api/v1/datasets/{theirs}/fixes").status_code == 404
    assert fix(api_client, theirs).status_code == 404
    assert api_client.get(f"/api/v1/datasets/{theirs}/diff").status_code == 404
