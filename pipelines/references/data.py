"""References to data: ``dataset:``, ``s3://`` and ``example:``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings

from celery_workers.contract.errors import InfrastructureError, UserInputError
from datasets_app.models import DatasetVersion
from pipelines.references.digests import digest_of
from pipelines.references.resolution import Resolution, UnresolvedReference
from platform_site.common import store

if TYPE_CHECKING:
    from platform_site.models import User

EXAMPLE_SUFFIXES = (".jsonl", ".csv", ".tsv", ".json", ".parquet", ".txt")


def resolve_data(value: str, user: User) -> Resolution:
    """Find the file that ``value`` names.

    Raises: UnresolvedReference: it is not there, or not this user's.
    """
    if value.startswith("dataset:"):
        return _dataset(value, user)
    if value.startswith("example:"):
        path = _example(value)
        return Resolution(kind="data", digest=digest_of(path), source={"type": "example", "name": path.name})
    return _bucket_object(value)


def materialize_data(value: str, resolution: Resolution, folder: Path) -> Path:
    """Return a local file with the content that was resolved; what must be copied goes below ``folder``.

    Raises: UserInputError: it is gone or has changed since. InfrastructureError: it cannot be read.
    """
    source = resolution.source
    if source["type"] == "dataset":
        target = folder / Path(str(source["file_name"])).name
        store.fetch(str(source["uri"]), manifest=[], is_folder=False, sha256=resolution.digest, destination=target)
        return target
    if source["type"] == "s3":
        return _download(value, resolution, folder / Path(str(source["key"])).name)
    try:
        path = _example(value) if source["type"] == "example" else _local_object(str(source["bucket"]), str(source["key"]))
    except UnresolvedReference as error:
        raise UserInputError(error.detail, code=error.error_code) from error
    if digest_of(path) != resolution.digest:
        raise _changed(value)
    return path


def _dataset(value: str, user: User) -> Resolution:
    dataset_id, _, number = value.removeprefix("dataset:").partition("@")
    try:
        versions = DatasetVersion.objects.visible_to(user).filter(dataset=UUID(dataset_id))
        version = versions.get(number=int(number)) if number else versions.order_by("-number").first()
    except (DatasetVersion.DoesNotExist, ValueError):
        version = None
    if version is None:
        raise UnresolvedReference(f"there is no {value}; upload the data, or list yours with GET /api/v1/datasets")
    source = {"type": "dataset", "version_id": str(version.pk), "uri": version.uri, "file_name": version.file_name}
    return Resolution(kind="data", digest=version.sha256, source=source)


def _example(value: str) -> Path:
    name = value.removeprefix("example:")
    folder = settings.BASE_DIR / "examples" / "data"
    for path in (folder / name, *(folder / f"{name}{suffix}" for suffix in EXAMPLE_SUFFIXES)):
        if path.suffix in EXAMPLE_SUFFIXES and path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            return path
    known = sorted(path.stem for path in folder.glob("*") if path.suffix in EXAMPLE_SUFFIXES)
    raise UnresolvedReference(f"there is no {value}; there is {', '.join(f'example:{name}' for name in known) or 'none'}")


def _bucket_object(value: str) -> Resolution:
    bucket, _, key = value.removeprefix("s3://").partition("/")
    _check_bucket(bucket, key)
    if not settings.ENV.minio_endpoint:
        path = _local_object(bucket, key)
        return Resolution(kind="data", digest=digest_of(path), source={"type": "bucket_folder", "bucket": bucket, "key": key})
    head = _head(bucket, key, value)
    etag, size_bytes = str(head["ETag"]), head["ContentLength"]
    source = {"type": "s3", "bucket": bucket, "key": key, "etag": etag, "size_bytes": size_bytes}
    return Resolution(kind="data", digest=f"etag:{etag.strip(chr(34))}:{size_bytes}", source=source)


def _check_bucket(bucket: str, key: str) -> None:
    own = settings.ENV.minio_bucket
    allowed = [own, *settings.ENV.data_buckets]
    if bucket not in allowed:
        raise UnresolvedReference(f"bucket must be one of {', '.join(allowed)} (MINIO_BUCKET, DATA_BUCKETS), got {bucket!r}")
    first = key.partition("/")[0]
    if bucket == own and first in store.OWN_PREFIXES:
        raise UnresolvedReference(f"the platform keeps its own files below {first}/ of {bucket!r}; use another key")


def _local_object(bucket: str, key: str) -> Path:
    root = (Path(settings.VAR_DIR) / "storage" / bucket).resolve()
    path = (root / key).resolve()
    if not path.is_relative_to(root) or path == root:
        raise UnresolvedReference(f"s3://{bucket}/{key} leads out of its bucket")
    # Once more after following links: a link into the platform's own files is not a way in either.
    if bucket == settings.ENV.minio_bucket and path.relative_to(root).parts[0] in store.OWN_PREFIXES:
        raise UnresolvedReference(f"s3://{bucket}/{key} leads into the platform's own files")
    if not path.is_file():
        raise UnresolvedReference(f"there is no file s3://{bucket}/{key}; with the local storage it is {root / key}")
    return path


def _head(bucket: str, key: str, value: str) -> dict[str, object]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return dict(_client().head_object(Bucket=bucket, Key=key))
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in ("404", "NoSuchKey", "NotFound", "NoSuchBucket"):
            raise UnresolvedReference(f"there is no {value} at {settings.ENV.minio_endpoint}") from error
        raise UnresolvedReference(f"{value} cannot be read: the object store answered {code}") from error
    except BotoCoreError as error:
        raise UnresolvedReference(f"{value} cannot be read: the object store is away ({error})", code="unavailable") from error


def _download(value: str, resolution: Resolution, target: Path) -> Path:
    from botocore.exceptions import BotoCoreError, ClientError

    source = resolution.source
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        answer = _client().get_object(Bucket=source["bucket"], Key=source["key"], IfMatch=source["etag"])
        with target.open("wb") as copy:
            for block in answer["Body"].iter_chunks(1024 * 1024):
                copy.write(block)
    except ClientError as error:
        if str(error.response.get("Error", {}).get("Code", "")) in ("412", "PreconditionFailed"):
            raise _changed(value) from error
        raise InfrastructureError(f"{value} cannot be read: {error}", code="store_unavailable") from error
    except BotoCoreError as error:
        raise InfrastructureError(f"{value} cannot be read: {error}", code="store_unavailable") from error
    return target


def _changed(value: str) -> UserInputError:
    return UserInputError(f"{value} has changed since the run was started; start the run again", code="reference_changed")


def _client() -> Any:  # boto3 makes its clients at run time
    import boto3
    from botocore.config import Config

    env = settings.ENV
    return boto3.client(
        "s3",
        endpoint_url=env.minio_endpoint,
        aws_access_key_id=env.minio_access_key,
        aws_secret_access_key=env.minio_secret_key,
        region_name="us-east-1",
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=5,
            read_timeout=60,
            retries={"max_attempts": 2},
        ),
    )
