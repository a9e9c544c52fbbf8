"""Stored files over HTTP: whole, in ranges, as a zip, streamed by a real server."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from django.core.files.storage import default_storage

from pipelines.models import Artifact
from pipelines.tests.factories import ArtifactFactory
from platform_site.common.store import store_path

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def file(user, tmp_path) -> Artifact:
    return stored(tmp_path / "weights.bin", user, content=CONTENT)


@pytest.fixture
def folder(user, tmp_path) -> Artifact:
    path = tmp_path / "adapter"
    (path / "inner").mkdir(parents=True)
    (path / "adapter_config.json").write_text("{}")
    (path / "inner" / "weights.bin").write_bytes(CONTENT)
    return stored(path, user, name="adapter", kind="model")


def stored(path: Path, owner, *, content: bytes | None = None, name: str = "", kind: str = "file") -> Artifact:
    if content is not None:
        path.write_bytes(content)
    found = store_path(path)
    values = {"uri": found.uri, "sha256": found.sha256, "size_bytes": found.size_bytes}
    return ArtifactFactory(
        owner=owner, kind=kind, name=name or path.name, is_folder=found.is_folder, manifest=found.manifest, **values
    )


def body(answer) -> bytes:
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def get(api_client, artifact: Artifact, **headers):
    return api_client.get(
        f"/api/v1/artifacts/{artifact.id}/download", headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


@pytest.mark.django_db
class TestWhole:
    def test_a_file_comes_with_length_digest_and_name(self, api_client, file):
        answer = get(api_client, file)

        assert body(answer) == CONTENT
        assert answer["Content-Length"] == str(len(CONTENT))
        assert answer["ETag"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
        assert answer["Accept-Ranges"] == "bytes"
        assert answer["Content-Disposition"] == 'attachment; filename="weights.bin"'
        assert answer["X-Content-Type-Options"] == "nosniff"

    def test_what_the_client_has_is_not_sent_again(self, api_client, file):
        answer = get(api_client, file, If_None_Match=f'"other", "{file.sha256}"')

        assert answer.status_code == 304

    def test_head_tells_the_length_only(self, api_client, file):
        answer = api_client.head(f"/api/v1/artifacts/{file.id}/download")

        assert (answer.status_code, answer["Content-Length"], answer.content) == (200, str(len(CONTENT)), b"")

    def test_a_folder_comes_as_a_zip_of_known_length(self, api_client, folder):
        answer = get(api_client, folder)
        content = body(answer)

        assert answer["Content-Length"] == str(len(content))
        assert answer["Content-Disposition"] == 'attachment; filename="adapter.zip"'
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.testzip() is None
            assert {name: archive.read(name) for name in archive.namelist()} == {
                "adapter_config.json": b"{}",
                "inner/weights.bin": CONTENT,
            }

    def test_an_empty_file_is_a_file(self, api_client, user, tmp_path):
        answer = get(api_client, stored(tmp_path / "empty", user, content=b""))

        assert (answer.status_code, body(answer)) == (200, b"")

    def test_a_report_is_json(self, api_client, user, tmp_path):
        answer = get(api_client, stored(tmp_path / "report.json", user, content=b'{"title": "x"}', kind="report"))

        assert answer["Content-Type"] == "application/json"
        assert body(answer) == b'{"title": "x"}'

    @pytest.mark.parametrize("which", ["file", "folder"])
    def test_content_that_is_gone_is_said_before_anything_is_sent(self, api_client, request, which):
        artifact = request.getfixturevalue(which)
        for name in [f"{artifact.uri}/{entry['path']}" for entry in artifact.manifest] or [artifact.uri]:
            default_storage.delete(name)

        answer = get(api_client, artifact)

        assert answer.status_code == 410
        assert answer.json()["code"] == "content_missing"

    def test_a_strangers_file_is_not_there(self, api_client, other_user, tmp_path):
        theirs = stored(tmp_path / "theirs", other_user, content=b"secret")

        assert get(api_client, theirs).status_code == 404
        assert api_client.get(f"/api/v1/artifacts/{theirs.id}").status_code == 404


@pytest.mark.django_db
class TestRanges:
    @pytest.mark.parametrize(
        ("asked", "first", "last"),
        [
            ("bytes=0-0", 0, 0),
            ("bytes=10-19", 10, 19),
            ("bytes=10200-", 10_200, 10_239),
            ("bytes=-5", 10_235, 10_239),
            ("bytes=10230-99999", 10_230, 10_239),
            ("bytes=-99999", 0, 10_239),
        ],
    )
    def test_a_range_is_exactly_those_bytes(self, api_client, file, asked, first, last):
        answer = get(api_client, file, Range=asked)

        assert answer.status_code == 206
        assert answer["Content-Range"] == f"bytes {first}-{last}/10240"
        assert answer["Content-Length"] == str(last - first + 1)
        assert body(answer) == CONTENT[first : last + 1]

    @pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=99999-100000", "bytes=-0"])
    def test_a_range_outside_is_416_with_the_size(self, api_client, file, asked):
        answer = get(api_client, file, Range=asked)

        assert answer.status_code == 416
        assert answer["Content-Range"] == "bytes */10240"
        assert answer.json()["code"] == "range_not_satisfiable"

    @pytest.mark.parametrize(
        "asked", ["bytes=5-2", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "nonsense", "bytes=" + "9" * 5000 + "-"]
    )
    def test_what_is_no_single_range_gets_the_whole(self, api_client, file, asked):
        answer = get(api_client, file, Range=asked)

        assert (answer.status_code, body(answer)) == (200, CONTENT)

    def test_a_download_goes_on_only_if_it_is_the_same_file(self, api_client, file):
        same = get(api_client, file, Range="bytes=10-", If_Range=f'"{file.sha256}"')
        changed = get(api_client, file, Range="bytes=10-", If_Range='"another"')

        assert (same.status_code, changed.status_code) == (206, 200)


class TestServed:
    @pytest.fixture
    def site(self, transactional_db) -> Iterator:
        from pipelines.tests.live_site import live_site

        with live_site() as site:
            yield site

    def test_a_real_server_streams_whole_ranges_and_zips(self, site, user, file, folder):
        headers = {"Authorization": f"Token {site.key_of(user, 'read')}"}
        url = f"{site.api}/artifacts/{file.id}/download"

        whole = requests.get(url, headers=headers, timeout=20)
        part = requests.get(url, headers=headers | {"Range": "bytes=100-199"}, timeout=20)
        archive = requests.get(f"{site.api}/artifacts/{folder.id}/download", headers=headers, timeout=20)
        head = requests.head(url, headers=headers, timeout=20)

        assert whole.content == CONTENT
        assert (part.status_code, part.content) == (206, CONTENT[100:200])
        assert zipfile.ZipFile(io.BytesIO(archive.content)).read("inner/weights.bin") == CONTENT
        assert head.headers["Content-Length"] == str(len(CONTENT))


@pytest.mark.django_db
def test_ranges_of_an_object_store(api_client, user, s3_storage, tmp_path):
    file = stored(tmp_path / "weights.bin", user, content=CONTENT)

    part = get(api_client, file, Range="bytes=1000-1999")
    whole = get(api_client, file)
    default_storage.delete(file.uri)
    gone = get(api_client, file)

    assert (part.status_code, body(part)) == (206, CONTENT[1000:2000])
    assert body(whole) == CONTENT
    assert gone.status_code == 410
