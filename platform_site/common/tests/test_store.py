from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.core.files.storage import default_storage

from platform_site.common import store
from platform_site.common.errors import InvalidFile, StorageFull, Unavailable
from platform_site.common.store import ContentCorrupt, ContentMissing, StoredObject, fetch, open_stored, store_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    (made / "sub").mkdir(parents=True)
    (made / "a.txt").write_text("alpha")
    (made / "sub" / "ü b.bin").write_bytes(bytes(range(256)) * 9000)
    return made


@pytest.fixture(params=["local", "s3"])
def anywhere(request: pytest.FixtureRequest, settings, tmp_path: Path) -> str:
    """Run the test on a local folder and on a real S3 server."""
    if request.param == "s3":
        request.getfixturevalue("s3_storage")
    else:
        use_local(settings, tmp_path / "storage")
    return request.param


@pytest.fixture
def local(settings, tmp_path: Path) -> Path:
    use_local(settings, tmp_path / "storage")
    return tmp_path / "storage"


def use_local(settings, location: Path) -> None:
    backend = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(location)}}
    settings.STORAGES = {**settings.STORAGES, "default": backend}


def bring(stored: StoredObject, destination: Path) -> Path:
    return fetch(
        stored.uri,
        manifest=stored.manifest,
        is_folder=stored.is_folder,
        sha256=stored.sha256,
        destination=destination,
    )


def test_a_folder_comes_back_as_it_was_and_read_only(anywhere: str, folder: Path, tmp_path: Path) -> None:
    stored = store_path(folder)
    back = bring(stored, tmp_path / "back")
    assert {p.relative_to(back).as_posix(): p.read_bytes() for p in back.rglob("*") if p.is_file()} == {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }
    assert [entry["path"] for entry in stored.manifest] == ["a.txt", "sub/ü b.bin"]
    assert stored.size_bytes == 5 + 256 * 9000
    assert (back / "a.txt").stat().st_mode & 0o222 == 0


def test_the_same_content_is_stored_once_under_one_name(anywhere: str, folder: Path, tmp_path: Path) -> None:
    first = store_path(folder)
    modified = default_storage.get_modified_time(f"{first.uri}/a.txt")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "a.txt").write_text("alpha")
    (tmp_path / "copy" / "sub").mkdir()
    (tmp_path / "copy" / "sub" / "ü b.bin").write_bytes((folder / "sub" / "ü b.bin").read_bytes())
    assert store_path(tmp_path / "copy") == first
    assert default_storage.get_modified_time(f"{first.uri}/a.txt") == modified


def test_a_file_is_stored_opened_and_removed(anywhere: str, folder: Path, tmp_path: Path) -> None:
    stored = store_path(folder / "a.txt")
    with open_stored(stored.uri) as opened:
        assert opened.read() == b"alpha"
    assert bring(stored, tmp_path / "x" / "back.txt").read_text() == "alpha"
    for _ in range(2):
        store.remove_stored(stored.uri, manifest=[], is_folder=False)
    with pytest.raises(ContentMissing):
        open_stored(stored.uri)
    with pytest.raises(ContentMissing):
        bring(stored, tmp_path / "again.txt")


def test_changed_content_is_never_handed_out(anywhere: str, folder: Path, tmp_path: Path) -> None:
    stored = store_path(folder)
    name = f"{stored.uri}/a.txt"
    if anywhere == "local":
        path = Path(default_storage.path(name))
        path.chmod(0o644)
        path.write_text("alphA")
    else:
        default_storage.bucket.Object(name).put(Body=b"alphA")
    with pytest.raises(ContentCorrupt):
        bring(stored, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_storing_again_mends_a_corrupt_local_file(local: Path, folder: Path, tmp_path: Path) -> None:
    stored = store_path(folder)
    path = local / stored.uri / "a.txt"
    path.chmod(0o644)
    path.write_text("alphA")
    store_path(folder)
    assert (bring(stored, tmp_path / "back") / "a.txt").read_text() == "alpha"


def test_a_local_fetch_is_a_link(local: Path, folder: Path, tmp_path: Path) -> None:
    stored = store_path(folder / "a.txt")
    assert bring(stored, tmp_path / "back").samefile(local / stored.uri)


def test_changing_the_source_later_leaves_the_store_alone(local: Path, folder: Path, tmp_path: Path) -> None:
    stored = store_path(folder)
    (folder / "a.txt").write_text("omega")
    assert (bring(stored, tmp_path / "back") / "a.txt").read_text() == "alpha"


def test_an_existing_destination_is_left_alone(local: Path, folder: Path, tmp_path: Path) -> None:
    stored = store_path(folder)
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(FileExistsError):
        bring(stored, tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "keep"


@pytest.mark.parametrize("make", ["link", "pipe"])
def test_links_and_pipes_are_refused(local: Path, folder: Path, make: str) -> None:
    if make == "link":
        (folder / "leak").symlink_to("/etc/hostname")
    else:
        os.mkfifo(folder / "leak")
    with pytest.raises(InvalidFile, match="leak"):
        store_path(folder)
    assert not local.exists()


def test_a_manifest_cannot_reach_outside(local: Path, tmp_path: Path) -> None:
    manifest = [{"path": "../../evil", "sha256": "0" * 64, "size_bytes": 1}]
    with pytest.raises(ContentCorrupt, match="relative"):
        fetch(
            "content/x", manifest=manifest, is_folder=True, sha256=store.manifest_digest(manifest), destination=tmp_path / "d"
        )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this platform has no /dev/full")
def test_a_full_disk_says_so(tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(b"x" * 4_000_000)
    with pytest.raises(StorageFull, match="full"), store._translated("x"):
        store._copy_verified(source.open("rb"), Path("/dev/full"), store.digest_file(source)[0])


def test_a_copy_that_fails_leaves_nothing_behind(local: Path, folder: Path) -> None:
    target = local / "content" / "x"
    with pytest.raises(ContentCorrupt), store._draft_of(target) as draft:
        store._copy_verified((folder / "a.txt").open("rb"), draft, "0" * 64)
    assert list(target.parent.iterdir()) == []


def test_an_object_store_that_is_away_is_unavailable(s3_storage, settings, folder: Path) -> None:
    options = {**settings.STORAGES["default"]["OPTIONS"], "endpoint_url": "http://127.0.0.1:9"}
    settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], "OPTIONS": options}}
    with pytest.raises(Unavailable, match="object store"):
        store_path(folder)
