"""Imports through the whole: REST, the task, a real HTTP server in the Hub's place, the store and the database."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.db import connection
from django.db.models.functions import Now
from rest_framework.test import APIClient

from datasets_app.import_work import import_next, sweep_folders
from datasets_app.models import Dataset, DatasetImport, DatasetVersion
from datasets_app.tests.hub_server import Hub, Repository, serving

pytestmark = pytest.mark.django_db(transaction=True)

ROWS = [{"prompt": f"What is {n} and {n}?", "completion": f"It is {2 * n}."} for n in range(40)]


def lines(rows: list[dict[str, str]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet(rows: list[dict[str, str]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, settings, tmp_path: Path) -> Iterator[Hub]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    settings.VAR_DIR = tmp_path
    with serving() as hub:
        changes = {"hf_endpoint": hub.address, "retry_base_seconds": 0.0, "max_attempts": 2}
        settings.ENV = settings.ENV.model_copy(update=changes)
        hub.repositories["ada/sums"] = Repository(files={"train.jsonl": lines(ROWS), "README.md": b"# Sums"})
        yield hub


@pytest.fixture
def api(user) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


def ask(api: APIClient, **body: object) -> dict[str, object]:
    answer = api.post("/api/v1/datasets/import", body, format="json")
    assert answer.status_code == 202, answer.content
    return answer.json()


def run(api: APIClient, **body: object) -> dict[str, object]:
    """Ask for an import, let a worker do all that is due, and return what became of it."""
    asked = ask(api, **body)
    while import_next():
        continue
    return api.get(asked["links"]["self"]).json()


def test_a_split_becomes_a_version_with_its_lineage(api: APIClient, hub: Hub) -> None:
    done = run(api, repository="ada/sums")

    assert done["status"] == "succeeded", done
    assert done["version"]["rows"] == 40
    assert done["done_bytes"] == done["total_bytes"] == len(lines(ROWS))
    version = DatasetVersion.objects.get()
    commit = hub.repositories["ada/sums"].at("main")[0]
    assert (version.dataset.name, version.file_name, version.format) == ("sums", "train.jsonl", "prompt_completion")
    assert version.origin["commit"] == commit
    assert version.origin["files"] == [{"path": "train.jsonl", "size_bytes": version.size_bytes, "sha256": version.sha256}]
    detail = api.get(f"/api/v1/datasets/{version.dataset_id}").json()
    assert detail["versions"][0]["origin"] == version.origin
    rows = api.get(f"/api/v1/datasets/{version.dataset_id}/preview?limit=1").json()["rows"]
    assert rows == [{"row_number": 1, **ROWS[0]}]


def test_the_answer_before_a_worker_comes_says_that_it_waits(api: APIClient, hub: Hub) -> None:
    asked = ask(api, repository="ada/sums", name="my sums")

    assert (asked["status"], asked["name"], asked["version"], asked["total_bytes"]) == ("pending", "my sums", None, None)
    assert hub.requests == []


def test_the_same_content_again_is_the_version_that_exists(api: APIClient, hub: Hub) -> None:
    first, second = run(api, repository="ada/sums"), run(api, repository="ada/sums")

    assert second["version"] == first["version"]
    assert DatasetVersion.objects.count() == 1


def test_shards_of_parquet_are_joined_in_their_order(api: APIClient, hub: Hub) -> None:
    files = {f"data/train-0000{n}-of-00002.parquet": parquet(part) for n, part in enumerate((ROWS[:25], ROWS[25:]))}
    hub.repositories["ada/shards"] = Repository(files=files | {"data/test-00000-of-00001.parquet": parquet(ROWS[:3])})

    done = run(api, repository="ada/shards", split="train")

    version = DatasetVersion.objects.get()
    assert done["version"]["rows"] == 40
    assert (version.file_format, len(version.origin["files"])) == ("parquet", 2)
    page = api.get(f"/api/v1/datasets/{version.dataset_id}/preview?limit=40").json()["rows"]
    assert [row["prompt"] for row in page] == [row["prompt"] for row in ROWS]


def test_shards_of_json_lines_are_joined(api: APIClient, hub: Hub) -> None:
    hub.repositories["ada/shards"] = Repository(files={"train-1.jsonl": lines(ROWS[:25]), "train-2.jsonl": lines(ROWS[25:])})

    assert run(api, repository="ada/shards")["version"]["rows"] == 40


def test_shards_with_other_columns_are_refused_by_name(api: APIClient, hub: Hub) -> None:
    files = {"train-1.parquet": parquet(ROWS), "train-2.parquet": parquet([{"text": "a text"}])}
    hub.repositories["ada/shards"] = Repository(files=files)

    done = run(api, repository="ada/shards")

    assert done["error"]["code"] == "different_columns"
    assert "train-2.parquet" in done["error"]["detail"]


def test_a_repository_with_only_a_script_is_taken_from_what_the_hub_converted(api: APIClient, hub: Hub) -> None:
    converted = {"english/train/0000.parquet": parquet(ROWS), "english/test/0000.parquet": parquet(ROWS[:3])}
    hub.repositories["ada/script"] = Repository(
        files={"script.py": b"import os; os.abort()"}, revisions={"refs/convert/parquet": converted}
    )

    done = run(api, repository="ada/script", split="test")

    assert done["version"]["rows"] == 3
    assert (done["origin"]["is_converted"], done["origin"]["subset"]) == (True, "english")
    assert not hub.seen("GET /datasets/ada/script/resolve/main/script.py")


def test_a_script_is_never_read(api: APIClient, hub: Hub) -> None:
    hub.repositories["ada/script"] = Repository(files={"script.py": b"import os; os.abort()"})

    assert run(api, repository="ada/script")["error"]["code"] == "no_data_file"
    done = run(api, repository="ada/script", file="script.py")
    assert done["error"]["code"] == "no_data_file"
    assert "scripts are never run" in done["error"]["detail"]
    assert not [line for _, line, _ in hub.requests if "/resolve/" in line]


def test_a_moving_branch_is_pinned_to_its_commit(api: APIClient, hub: Hub) -> None:
    hub.repositories["ada/sums"].revisions["v2"] = {"train.jsonl": lines(ROWS[:5])}

    done = run(api, repository="ada/sums", revision="v2")

    assert done["version"]["rows"] == 5
    assert done["origin"]["revision"] == "v2"
    assert done["origin"]["commit"] == hub.repositories["ada/sums"].at("v2")[0]


def test_what_can_be_chosen_is_named(api: APIClient, hub: Hub) -> None:
    files = {"train.jsonl": lines(ROWS), "test.jsonl": lines(ROWS[:2])}
    hub.repositories["ada/two"] = Repository(files=files)

    done = run(api, repository="ada/two")

    assert (done["status"], done["error"]["code"]) == ("failed", "choose_split")
    assert "train, test" in done["error"]["detail"]
    assert Dataset.objects.count() == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"repository": "ada/nothing"}, "unknown_repository"),
        ({"repository": "ada/sums", "revision": "v9"}, "unknown_revision"),
        ({"repository": "ada/sums", "split": "test"}, "unknown_split"),
        ({"repository": "ada/sums", "subset": "french"}, "unknown_subset"),
        ({"repository": "ada/sums", "file": "test.jsonl"}, "unknown_file"),
    ],
    ids=["repository", "revision", "split", "subset", "file"],
)
def test_what_is_not_there_fails_at_once_with_the_reason(api: APIClient, hub: Hub, body: dict[str, str], code: str) -> None:
    done = run(api, **body)

    assert (done["status"], done["attempt"], done["error"]["code"]) == ("failed", 1, code)


def test_a_gated_dataset_needs_the_token_of_the_platform(api: APIClient, hub: Hub, settings) -> None:
    hub.repositories["ada/gated"] = Repository(files={"train.jsonl": lines(ROWS)}, gated=True)

    refused = run(api, repository="ada/gated")
    settings.ENV = settings.ENV.model_copy(update={"hf_token": "hf_secret"})
    allowed = run(api, repository="ada/gated")

    assert refused["error"]["code"] == "gated"
    assert "HF_TOKEN" in refused["error"]["detail"]
    assert allowed["status"] == "succeeded"
    assert "hf_secret" not in json.dumps(allowed)


def test_the_token_never_reaches_the_host_of_large_files(api: APIClient, hub: Hub, settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"hf_token": "hf_secret"})
    hub.large.add("train.jsonl")

    done = run(api, repository="ada/sums")

    elsewhere = [headers for host, _, headers in hub.requests if host == "storage"]
    assert done["status"] == "succeeded"
    assert elsewhere
    assert all("authorization" not in headers for headers in elsewhere)
    assert all(headers["authorization"] == "Bearer hf_secret" for host, _, headers in hub.requests if host == "hub")


@pytest.mark.parametrize("is_large", [True, False], ids=["by_sha256", "by_blob_id"])
def test_other_bytes_than_listed_are_no_version(api: APIClient, hub: Hub, is_large: bool) -> None:
    hub.tampered.add("train.jsonl")
    if is_large:
        hub.large.add("train.jsonl")

    done = run(api, repository="ada/sums")

    assert (done["status"], done["attempt"], done["error"]["code"]) == ("failed", 2, "wrong_digest")
    assert Dataset.objects.count() == 0


def test_a_connection_cut_in_mid_file_goes_on_where_it_was(api: APIClient, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)
    hub.cuts["train.jsonl"] = [1000, 500]

    done = run(api, repository="ada/sums")

    content = hub.seen("GET /datasets/ada/sums/resolve")
    assert (done["status"], done["attempt"], done["version"]["rows"]) == ("succeeded", 1, 40)
    assert done["done_bytes"] == len(lines(ROWS))
    assert len(content) == 3
    assert all(headers["range"].startswith("bytes=") for headers in content[1:])


def test_a_hub_that_is_away_is_asked_again_and_then_given_up(api: APIClient, hub: Hub) -> None:
    hub.is_down = True

    asked = ask(api, repository="ada/sums")
    assert import_next()
    waiting = api.get(asked["links"]["self"]).json()
    assert (waiting["status"], waiting["error"]["code"]) == ("pending", "hub_unavailable")
    assert import_next()
    failed = api.get(asked["links"]["self"]).json()

    assert (failed["status"], failed["error"]["code"]) == ("failed", "hub_unavailable")
    assert "upload it" in failed["error"]["detail"]
    assert not import_next()


def test_an_offline_server_says_so_and_what_to_do(api: APIClient, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    answer = api.post("/api/v1/datasets/import", {"repository": "ada/sums"}, format="json")

    assert (answer.status_code, answer.json()["code"]) == (503, "hub_offline")
    assert "HF_HUB_OFFLINE" in answer.json()["detail"]
    assert "upload it" in answer.json()["detail"]


def test_more_than_the_limit_is_refused_before_a_byte_comes(api: APIClient, hub: Hub, settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"max_import_bytes": 100})

    done = run(api, repository="ada/sums")

    assert done["error"]["code"] == "too_large"
    assert f"at most 100 bytes (MAX_IMPORT_BYTES), ada/sums has {len(lines(ROWS))}" in done["error"]["detail"]
    assert not [line for _, line, _ in hub.requests if "/resolve/" in line]


def test_rows_of_no_format_wait_for_their_columns(api: APIClient, hub: Hub) -> None:
    hub.repositories["ada/odd"] = Repository(files={"train.jsonl": b'{"a": "x", "b": "y"}\n'})

    done = run(api, repository="ada/odd")

    assert done["error"]["code"] == "no_row_format"
    assert api.get(done["links"]["columns"]).status_code == 200


def test_columns_can_be_mapped_at_once(api: APIClient, hub: Hub) -> None:
    hub.repositories["ada/odd"] = Repository(files={"train.jsonl": b'{"a": "x", "b": "y"}\n'})

    done = run(api, repository="ada/odd", columns={"prompt": "a", "completion": "b"})

    assert done["version"]["rows"] == 1
    assert DatasetVersion.objects.get().format == "prompt_completion"


def test_an_import_that_is_deleted_makes_no_version(api: APIClient, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.held["train.jsonl"] = threading.Event()
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)
    asked = ask(api, repository="ada/sums")
    worker = threading.Thread(target=_work)
    worker.start()
    while not hub.seen("GET /datasets/ada/sums/resolve"):
        assert worker.is_alive()
        time.sleep(0.01)
    assert api.delete(asked["links"]["self"]).status_code == 204
    hub.held.pop("train.jsonl").set()
    worker.join()

    assert (Dataset.objects.count(), DatasetImport.objects.count()) == (0, 0)
    sweep_folders()
    assert list((Path(hub_folder())).iterdir()) == []


def _work() -> None:
    try:
        import_next()
    finally:
        connection.close()


def hub_folder() -> Path:
    from django.conf import settings

    return Path(settings.VAR_DIR) / "imports"


WORKER = """
import django; django.setup()
from huggingface_hub import constants; constants.HF_HUB_OFFLINE = False; constants.DOWNLOAD_CHUNK_SIZE = 100
from datasets_app.import_work import import_next
import_next()
"""


def test_a_killed_worker_leaves_nothing_half_made_and_another_goes_on(api: APIClient, hub: Hub, settings) -> None:
    hub.held["train.jsonl"] = threading.Event()
    asked = ask(api, repository="ada/sums")
    database = connection.settings_dict
    url = f"postgres://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    environment = {
        **os.environ, "DATABASE_URL": url, "HF_ENDPOINT": hub.address, "VAR_DIR": str(settings.VAR_DIR), "LEASE_SECONDS": "2",
    }  # fmt: skip
    environment.pop("HF_HUB_OFFLINE")
    worker = subprocess.Popen([sys.executable, "-c", WORKER], env=environment)
    while not hub.seen("GET /datasets/ada/sums/resolve"):
        assert worker.poll() is None
        time.sleep(0.01)
    worker.kill()
    worker.wait()
    running = api.get(asked["links"]["self"]).json()
    assert (running["status"], running["version"], Dataset.objects.count()) == ("running", None, 0)
    hub.held.pop("train.jsonl").set()

    DatasetImport.objects.update(lease_expires_at=Now())
    assert import_next()

    done = api.get(asked["links"]["self"]).json()
    assert (done["status"], done["attempt"], done["version"]["rows"]) == ("succeeded", 2, 40)
    assert DatasetVersion.objects.count() == 1
    sweep_folders()
    assert list(hub_folder().iterdir()) == []


def test_an_attempt_that_lost_its_lease_cannot_make_a_version(
    api: APIClient, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(api, repository="ada/sums")
    from datasets_app import import_work

    original = import_work.import_file

    def overtaken(**given: object) -> object:
        DatasetImport.objects.update(attempt=7)
        return original(**given)

    monkeypatch.setattr(import_work, "import_file", overtaken)
    assert import_next()

    assert (DatasetVersion.objects.count(), Dataset.objects.count()) == (0, 0)
    assert DatasetImport.objects.get().status == "running"


def test_an_object_of_a_bucket_is_imported(api: APIClient, hub: Hub, settings) -> None:
    folder = Path(settings.VAR_DIR) / "storage" / "datasets" / "sums"
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_bytes(lines(ROWS))

    done = run(api, address="s3://datasets/sums/rows.jsonl")

    assert (done["status"], done["name"], done["version"]["rows"]) == ("succeeded", "rows", 40)
    assert done["origin"]["address"] == "s3://datasets/sums/rows.jsonl"
    assert (folder / "rows.jsonl").is_file()


def test_an_object_that_is_not_there_is_refused_at_once(api: APIClient, hub: Hub) -> None:
    answer = api.post("/api/v1/datasets/import", {"address": "s3://datasets/none.jsonl"}, format="json")

    assert (answer.status_code, answer.json()["code"]) == (400, "unresolved_reference")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"repository": "ada/sums", "address": "s3://datasets/a.csv"},
        {"address": "s3://datasets/a.csv", "split": "train"},
        {"address": "/etc/passwd"},
        {"repository": "ada/sums", "file": "a.jsonl", "split": "train"},
        {"repository": "../../etc"},
        {"repository": "ada/sums", "file": "../secret.jsonl"},
        {"repository": "ada/sums", "columns": {"prompt": ["a"]}},
    ],
    ids=["nothing", "both", "split_of_object", "path", "file_and_split", "bad_repository", "bad_file", "bad_columns"],
)
def test_a_malformed_source_is_refused(api: APIClient, hub: Hub, body: dict[str, object]) -> None:
    answer = api.post("/api/v1/datasets/import", body, format="json")

    assert answer.status_code == 400
    assert DatasetImport.objects.count() == 0


def test_a_strangers_import_is_not_there(api: APIClient, hub: Hub, other_user) -> None:
    asked = ask(api, repository="ada/sums")
    api.force_authenticate(other_user)

    assert api.get(asked["links"]["self"]).status_code == 404
    assert api.delete(asked["links"]["self"]).status_code == 404
    assert api.get("/api/v1/datasets/imports").json()["results"] == []
