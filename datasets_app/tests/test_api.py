"""Datasets over the REST API, against PostgreSQL and a real store."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.conf import settings
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile

from celery_workers.data import compression
from datasets_app.models import Dataset, DatasetVersion
from datasets_app.tests.factories import DatasetFactory, DatasetVersionFactory
from platform_site.common import store

pytestmark = pytest.mark.django_db

CSV = "instruction,output\nAdd 2 and 3.,5\nSay hi.,Hi\n"


def upload(client, content: str | bytes = CSV, *, file_name: str = "orders.csv", **fields: str):
    content = content.encode() if isinstance(content, str) else content
    return client.post("/api/v1/datasets/upload", {"file": SimpleUploadedFile(file_name, content), "name": "orders", **fields})


def stored_files() -> set[Path]:
    root = Path(default_storage.path(""))
    return {path for path in root.rglob("*") if path.is_file()} if root.exists() else set()


def test_an_upload_becomes_the_first_version(api_client, user) -> None:
    answer = upload(api_client)

    assert answer.status_code == 201, answer.json()
    body = answer.json()
    version = DatasetVersion.objects.get(dataset_id=body["id"])
    assert body == {
        "id": str(version.dataset_id),
        "name": "orders",
        "version": 1,
        "format": "alpaca",
        "format_reason": "Found alpaca: columns instruction, output.",
        "file_format": "csv",
        "rows": 2,
        "size_bytes": len(CSV),
        "sha256": hashlib.sha256(CSV.encode()).hexdigest(),
        "reference": f"dataset:{version.dataset_id}@1",
        "checks": {"rows": 2, "fit_rows": 2, "dropped_rows": 0, "rows_with_warnings": 0, "duplicate_rows": 0},
    }
    assert version.dataset.owner == user
    with store.open_stored(version.uri) as file:
        assert file.read() == CSV.encode()
    assert (version.file_name, version.columns[0]) == ("orders.csv", {"name": "instruction", "type": "text"})


def test_the_same_content_is_the_version_that_exists(api_client) -> None:
    first = upload(api_client).json()

    again = upload(api_client)

    assert again.status_code == 201
    assert again.json() == first
    assert DatasetVersion.objects.count() == 1


def test_other_content_under_the_name_is_the_next_version(api_client) -> None:
    first = upload(api_client).json()

    second = upload(api_client, CSV + "Sing.,La\n").json()

    assert (second["id"], second["version"], second["rows"]) == (first["id"], 2, 3)


def test_names_belong_to_their_owner(api_client, other_user) -> None:
    theirs = DatasetFactory(owner=other_user, name="orders")

    assert upload(api_client).json()["id"] != str(theirs.id)


def test_a_name_may_be_left_out(api_client) -> None:
    answer = api_client.post("/api/v1/datasets/upload", {"file": SimpleUploadedFile("notes.csv", b"text\na\n")})

    assert answer.json()["name"] == "notes"


def test_every_row_is_checked_and_the_bad_ones_are_named(api_client) -> None:
    lines = ['{"prompt": "a", "completion": "b"}', '{"prompt": "a", "completion": ', "", '{"prompt": "", "completion": 5}']
    body = upload(api_client, "\n".join(lines), file_name="a.jsonl").json()
    assert body["checks"]["fit_rows"] == 1

    report = api_client.get(f"/api/v1/datasets/{body['id']}/report").json()

    assert report["verdict"] == "1 of 3 rows are fit to train on; 2 were left out."
    assert [(item["row_number"], item["field"], item["code"]) for item in report["data"]["problems"]] == [
        (2, "", "broken_row"),
        (4, "completion", "wrong_type"),
        (4, "prompt", "empty_field"),
    ]
    assert all(item["fix"] for item in report["data"]["problems"])


@pytest.mark.parametrize(
    ("content", "file_name", "fields", "code", "message"),
    [
        ("", "orders.csv", {}, "empty_file", "orders.csv: the file is empty"),
        (CSV, "orders.parquet", {}, "wrong_format", "the name says parquet, but the content is csv"),
        (CSV, "orders.csv", {"format": "json"}, "wrong_format", "the format says json, but the content is csv"),
        (CSV, "orders.csv", {"format": "xlsx"}, "invalid_input", "format: "),
        ("frage,antwort\na,b\n", "orders.csv", {}, "no_row_format", "no row format fits the columns 'frage', 'antwort'"),
        ('[{"text": "a"}, {"text": ]', "orders.json", {}, "broken_json", "orders.json, row 2: is not JSON"),
        (
            "prompt,completion\na,\n,b\n",
            "orders.csv",
            {},
            "no_fit_rows",
            "none of 2 rows is fit to train on; row 1: completion",
        ),
        (b"\x89PNG\r\n\x1a\n\0\0", "orders.csv", {}, "nul_bytes", "NUL bytes"),
    ],
)
def test_a_bad_file_gets_one_clear_error_and_leaves_nothing(
    api_client, content: str, file_name: str, fields: dict, code: str, message: str
) -> None:
    before = stored_files()

    answer = upload(api_client, content, file_name=file_name, **fields)

    assert answer.status_code == 400
    body = answer.json()
    assert set(body) == {"code", "detail", "errors"}
    assert body["code"] == code
    assert message in body["detail"]
    assert body["errors"][0]["field"] in ("file", "format")
    assert not Dataset.objects.exists()
    assert stored_files() == before
    assert not [path for path in Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir() if path.is_file()]


def test_a_file_over_the_limit_is_refused(api_client, settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"max_upload_bytes": 20})

    answer = upload(api_client)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert f"at most 20 bytes, got {len(CSV)}" in answer.json()["detail"]
    assert not Dataset.objects.exists()


def test_a_full_disk_leaves_nothing(api_client, monkeypatch) -> None:
    before = stored_files()

    def no_room(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)

    answer = upload(api_client, CSV + "only here,x\n")

    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
    assert stored_files() == before
    assert not Dataset.objects.exists()


def test_a_database_error_after_storing_removes_the_file(api_client, monkeypatch) -> None:
    before = stored_files()

    def fail(self: DatasetVersion, *_: object, **__: object) -> None:
        raise RuntimeError("the connection is gone")

    monkeypatch.setattr(DatasetVersion, "save", fail)

    with pytest.raises(RuntimeError):
        upload(api_client, CSV + "unique to this test,x\n")

    assert stored_files() == before
    assert not Dataset.objects.exists()


def test_what_postgresql_cannot_store_is_shown_otherwise(api_client) -> None:
    rows = [{"text": "a\x00b", "odd\x00name": 1}, {"text": "fine"}]

    answer = upload(api_client, json.dumps(rows), file_name="a.json")

    assert answer.status_code == 201
    assert DatasetVersion.objects.get().columns[1]["name"] == "odd\ufffdname"


@pytest.mark.parametrize("request_", ["get", "put"])
def test_upload_takes_post_only(api_client, request_: str) -> None:
    assert getattr(api_client, request_)("/api/v1/datasets/upload").status_code == 405


def test_upload_without_a_file_says_so(api_client) -> None:
    answer = api_client.post("/api/v1/datasets/upload", {"name": "x"})

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "file"


def test_upload_needs_a_token(client) -> None:
    assert upload(client).status_code == 401


def test_a_browser_session_uploads_with_its_csrf_token(user) -> None:
    from django.test import Client

    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user)
    assert upload(browser).status_code == 403
    token = "a" * 32
    browser.cookies["csrftoken"] = token

    form = {"file": SimpleUploadedFile("orders.csv", CSV.encode()), "name": "orders"}
    answer = browser.post("/api/v1/datasets/upload", form, headers={"X-CSRFToken": token})

    assert answer.status_code == 201, answer.content


def test_datasets_are_listed_newest_first_with_their_latest_version(
    api_client, user, other_user, django_assert_max_num_queries
) -> None:
    for _ in range(3):
        dataset = DatasetFactory(owner=user)
        DatasetVersionFactory(dataset=dataset, number=1)
        DatasetVersionFactory(dataset=dataset, number=2, rows=7)
    DatasetFactory(owner=other_user)

    with django_assert_max_num_queries(5):
        body = api_client.get("/api/v1/datasets?limit=2").json()

    assert [(item["latest_version"]["version"], item["latest_version"]["rows"]) for item in body["results"]] == [(2, 7), (2, 7)]
    assert body["results"][0]["id"] == str(dataset.id)
    assert len(api_client.get(body["next"]).json()["results"]) == 1


def test_a_dataset_shows_its_versions(api_client, user) -> None:
    dataset = DatasetFactory(owner=user)
    DatasetVersionFactory(dataset=dataset, number=1)
    DatasetVersionFactory(dataset=dataset, number=2)

    body = api_client.get(f"/api/v1/datasets/{dataset.id}").json()

    assert [version["version"] for version in body["versions"]] == [2, 1]
    assert body["latest_version"] == body["versions"][0]


@pytest.mark.parametrize("path", ["", "/preview", "/report"])
def test_a_stranger_sees_nothing(api_client, other_user, path: str) -> None:
    version = DatasetVersionFactory(dataset__owner=other_user)

    answer = api_client.get(f"/api/v1/datasets/{version.dataset_id}{path}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_rows_come_in_pages(api_client) -> None:
    rows = "\n".join(json.dumps({"text": str(number), "row_number": "mine"}) for number in range(1, 2501))
    dataset = upload(api_client, rows + "\nbroken", file_name="a.jsonl").json()["id"]

    page = api_client.get(f"/api/v1/datasets/{dataset}/preview?offset=1200&limit=2").json()
    last = api_client.get(f"/api/v1/datasets/{dataset}/preview?offset=2499&limit=200").json()

    assert page["rows"] == [
        {"row_number": 1201, "text": "1201", "source_row_number": "mine"},
        {"row_number": 1202, "text": "1202", "source_row_number": "mine"},
    ]
    assert (page["total"], page["next_offset"], page["version"]) == (2501, 1202, 1)
    assert [row["row_number"] for row in last["rows"]] == [2500, 2501]
    assert last["rows"][1]["problem"].startswith("is not a JSON object")
    assert last["next_offset"] is None


def test_a_page_of_very_long_rows_ends_early(api_client) -> None:
    rows = "\n".join(json.dumps({"text": "x" * 900_000}) for _ in range(6))
    dataset = upload(api_client, rows, file_name="a.jsonl").json()["id"]

    page = api_client.get(f"/api/v1/datasets/{dataset}/preview").json()

    assert (len(page["rows"]), page["next_offset"]) == (3, 3)


def test_parquet_values_without_a_json_form_are_shown_as_text(api_client) -> None:
    file = io.BytesIO()
    row = {"text": "a", "at": datetime(2025, 1, 2, tzinfo=UTC), "score": float("nan"), "raw": b"\xff"}
    pq.write_table(pa.Table.from_pylist([row]), file)
    dataset = upload(api_client, file.getvalue(), file_name="a.parquet").json()["id"]

    (shown,) = api_client.get(f"/api/v1/datasets/{dataset}/preview").json()["rows"]

    assert shown == {"row_number": 1, "text": "a", "at": "2025-01-02 00:00:00+00:00", "score": "nan", "raw": "b'\\xff'"}


@pytest.mark.parametrize("query", ["offset=-1", "limit=0", "limit=201", "version=0", "version=x"])
def test_a_query_out_of_range_is_refused(api_client, user, query: str) -> None:
    version = DatasetVersionFactory(dataset__owner=user)

    answer = api_client.get(f"/api/v1/datasets/{version.dataset_id}/preview?{query}")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == query.partition("=")[0]


def test_an_older_version_can_be_read(api_client) -> None:
    dataset = upload(api_client).json()["id"]
    upload(api_client, CSV + "Sing.,La\n")

    assert api_client.get(f"/api/v1/datasets/{dataset}/preview?version=1").json()["total"] == 2
    assert api_client.get(f"/api/v1/datasets/{dataset}/report?version=1").json()["summary"]["rows"] == 2
    assert api_client.get(f"/api/v1/datasets/{dataset}/report").json()["summary"]["rows"] == 3
    assert api_client.get(f"/api/v1/datasets/{dataset}/report?version=9").status_code == 404


def test_uploads_and_previews_work_on_s3(api_client, s3_storage) -> None:
    dataset = upload(api_client).json()["id"]

    assert [row["output"] for row in api_client.get(f"/api/v1/datasets/{dataset}/preview").json()["rows"]] == ["5", "Hi"]
    version = DatasetVersion.objects.get()
    head = s3_storage.client().head_object(Bucket=s3_storage.bucket, Key=version.uri)
    assert head["ContentLength"] == len(CSV)


MAPPING = {"prompt": "frage", "completion": "antwort"}


def test_columns_that_fit_no_format_are_mapped_at_upload(api_client) -> None:
    content = "frage,antwort,context\na,b,c\n\nd\ne,f,g\n"
    assert upload(api_client, content).json()["code"] == "no_row_format"

    answer = upload(api_client, content, columns=json.dumps(MAPPING))

    body = answer.json()
    assert answer.status_code == 201, body
    assert (body["format"], body["file_format"], body["rows"]) == ("prompt_completion", "jsonl", 3)
    assert body["format_reason"].startswith("Mapped at upload: prompt from 'frage', completion from 'antwort'. Found prompt_")
    assert (body["checks"]["fit_rows"], body["checks"]["dropped_rows"]) == (2, 1)
    rows = api_client.get(f"/api/v1/datasets/{body['id']}/preview").json()["rows"]
    assert rows[0] == {"row_number": 1, "prompt": "a", "completion": "b", "source_context": "c"}
    assert "the header has 3 fields" in rows[1]["problem"] or "a row must be an object" in rows[1]["problem"]
    assert rows[2]["row_number"] == 3


def test_the_same_mapping_again_is_the_same_version_and_another_is_another(api_client) -> None:
    content = "frage,antwort\na,b\n"
    first = upload(api_client, content, columns=json.dumps(MAPPING))

    again = upload(api_client, content, columns=json.dumps(MAPPING))
    other = upload(api_client, content, columns=json.dumps({"prompt": "antwort", "completion": "frage"}))

    assert (again.status_code, again.json()["version"]) == (201, first.json()["version"])
    assert (other.status_code, other.json()["version"]) == (201, 2)


@pytest.mark.parametrize(
    ("columns", "status", "message"),
    [
        ('{"prompt": "absent", "completion": "antwort"}', 400, "'absent', which is not among"),
        ('{"promt": "frage"}', 400, "got 'promt'"),
        ('{"prompt": 5}', 400, "must map each part"),
        ("[1]", 400, "must be an object"),
        ("no JSON", 400, "JSON"),
        ('{"text": "frage", "prompt": "antwort"}', 400, "which rows of text do not have"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_by_field(api_client, columns: str, status: int, message: str) -> None:
    before = stored_files()

    answer = upload(api_client, "frage,antwort\na,b\n", columns=columns)

    assert answer.status_code == status, answer.json()
    assert answer.json()["errors"][0]["field"] == "columns"
    assert message in json.dumps(answer.json(), ensure_ascii=False)
    assert stored_files() == before


@pytest.mark.parametrize(
    ("file_name", "content", "file_format", "kept_as"),
    [
        ("orders.csv.gz", gzip.compress(CSV.encode(), mtime=0), "csv", "orders.csv.gz"),
        ("orders.tsv", CSV.replace(",", "\t").encode(), "tsv", "orders.tsv"),
        ("notes.md", b"# One\n\ntext\n\nmore\n", "markdown", "notes.md"),
        ("notes.txt.gz", gzip.compress(b"one\n\ntwo\n", mtime=0), "text", "notes.txt.gz"),
    ],
)
def test_every_file_format_is_uploaded_and_read_again(
    api_client, file_name: str, content: bytes, file_format: str, kept_as: str
) -> None:
    body = upload(api_client, content, file_name=file_name).json()

    assert (body["file_format"], body["rows"]) == (file_format, 2)
    assert DatasetVersion.objects.get(dataset_id=body["id"]).file_name == kept_as
    assert len(api_client.get(f"/api/v1/datasets/{body['id']}/preview").json()["rows"]) == 2


def test_a_compression_bomb_is_refused_and_leaves_nothing(api_client, monkeypatch) -> None:
    monkeypatch.setattr(compression, "INFLATION_IS_FREE_BYTES", 100_000)
    bomb = gzip.compress(b'{"text": "a"}\n' * 1_000_000)

    before = stored_files()

    answer = upload(api_client, bomb, file_name="rows.jsonl.gz")

    assert (answer.status_code, answer.json()["code"]) == (400, "too_large")
    assert stored_files() == before
