from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings as django_settings

from celery_workers.contract import UserInputError
from datasets_app.models import Dataset, DatasetVersion
from pipelines.references import ReferenceKind, Resolution, UnresolvedReference, materialize, resolve
from platform_site.common import store

pytestmark = pytest.mark.django_db


def data(value: str, user) -> Resolution:
    return resolve(value, ReferenceKind.DATA, user=user)


def refusal(value: str, user) -> str:
    with pytest.raises(UnresolvedReference) as refused:
        data(value, user)
    return refused.value.detail


@pytest.fixture
def bucket() -> Iterator[Path]:
    """The folder that stands for the bucket ``datasets``."""
    folder = Path(django_settings.VAR_DIR) / "storage" / "datasets"
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    store.remove_tree(folder)


@pytest.fixture
def dataset(user, tmp_path: Path) -> Dataset:
    """A dataset with two versions in the store."""
    made = Dataset.objects.create(owner=user, name="rows")
    for number in (1, 2):
        path = tmp_path / f"v{number}.csv"
        path.write_text(f"text\n{number}\n")
        stored = store.store_path(path)
        DatasetVersion.objects.create(
            dataset=made,
            number=number,
            file_name="rows.csv",
            file_format="csv",
            format="text",
            uri=stored.uri,
            sha256=stored.sha256,
            size_bytes=stored.size_bytes,
            rows=1,
        )
    return made


def test_a_dataset_is_its_newest_version_unless_one_is_named(user, dataset: Dataset, tmp_path: Path) -> None:
    for value, text in ((f"dataset:{dataset.pk}", "text\n2\n"), (f"dataset:{dataset.pk}@1", "text\n1\n")):
        path = materialize(value, data(value, user), folder=tmp_path / value[-2:])
        assert (path.name, path.read_text()) == ("rows.csv", text)


def test_a_strangers_or_missing_dataset_is_not_there(user, other_user, dataset: Dataset) -> None:
    assert "upload the data" in refusal(f"dataset:{uuid.uuid4()}", user)
    assert "there is no" in refusal(f"dataset:{dataset.pk}", other_user)
    assert "there is no" in refusal(f"dataset:{dataset.pk}@9", user)
    assert "there is no" in refusal(f"dataset:{'-' * 36}", user)


def test_an_example_is_found_without_its_suffix(user, tmp_path: Path) -> None:
    resolution = data("example:orders", user)
    path = materialize("example:orders", resolution, folder=tmp_path)
    assert path.name == "orders.jsonl"
    assert resolution.digest == store.digest_file(path)[0]
    assert "example:orders" in refusal("example:nope", user)


def test_a_bucket_is_a_folder_with_embedded_storage(user, bucket: Path, tmp_path: Path) -> None:
    (bucket / "deep").mkdir()
    (bucket / "deep" / "t.csv").write_text("a\n1\n")
    value = "s3://datasets/deep/t.csv"
    resolution = data(value, user)
    assert materialize(value, resolution, folder=tmp_path) == (bucket / "deep" / "t.csv").resolve()
    assert "there is no file s3://datasets/deep/u.csv" in refusal("s3://datasets/deep/u.csv", user)
    (bucket / "deep" / "t.csv").write_text("a\n2\n")
    with pytest.raises(UserInputError, match="has changed since"):
        materialize(value, resolution, folder=tmp_path)
    (bucket / "deep" / "t.csv").unlink()
    with pytest.raises(UserInputError, match="there is no file"):
        materialize(value, resolution, folder=tmp_path)


def test_no_key_leads_out_of_its_bucket(user, bucket: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("x")
    (bucket / "link.csv").symlink_to(tmp_path / "secret.csv")
    (bucket / "up").symlink_to("..")
    assert "leads out of its bucket" in refusal("s3://datasets/link.csv", user)
    assert "leads out of its bucket" in refusal("s3://datasets/up/platform/x", user)
    assert "leads out of its bucket" in refusal("s3://datasets/../../secret_key", user)


def test_other_buckets_and_the_platforms_own_files_are_refused(user, tmp_path: Path) -> None:
    assert "bucket must be one of platform, datasets" in refusal("s3://private/x.csv", user)
    (tmp_path / "own").write_text("x")
    stored = store.store_path(tmp_path / "own")
    assert "own files" in refusal(f"s3://platform/{stored.uri}", user)
    root = Path(django_settings.VAR_DIR) / "storage" / "platform"
    link = root / "innocent.csv"
    link.symlink_to(root / stored.uri)
    try:
        assert "own files" in refusal("s3://platform/innocent.csv", user)
    finally:
        link.unlink()


def test_s3_objects_are_pinned_to_what_they_were(user, s3_storage, tmp_path: Path) -> None:
    client = s3_storage.client()
    client.put_object(Bucket="datasets", Key="a b/t.csv", Body=b"a\n1\n")
    value = "s3://datasets/a b/t.csv"
    resolution = data(value, user)
    path = materialize(value, resolution, folder=tmp_path / "one")
    assert (path.name, path.read_bytes()) == ("t.csv", b"a\n1\n")
    assert "there is no s3://datasets/none.csv" in refusal("s3://datasets/none.csv", user)
    client.put_object(Bucket="datasets", Key="a b/t.csv", Body=b"a\n2\n")
    with pytest.raises(UserInputError, match="has changed since"):
        materialize(value, resolution, folder=tmp_path / "two")
    assert data(value, user).digest != resolution.digest
