"""Files kept by what they contain, over Django's default storage: a local folder or S3.

    stored = store_path(path)                       # a file or a folder; storing the same content again does nothing
    fetch(stored.uri, manifest=stored.manifest, is_folder=stored.is_folder, sha256=stored.sha256, destination=target)

A name holds the content's SHA-256, so an object is written once and never changes. A folder's digest is that of its
manifest, and its files lie below its ``uri``. Local files appear by rename and are read-only; a fetch from a local
folder is a hard link. Every fetch verifies what it hands out.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypedDict

from django.core.files import File
from django.core.files.storage import FileSystemStorage, default_storage

from platform_site.common.errors import InvalidFile, StorageFull, Unavailable

CONTENT_PREFIX = "content"
CHECKPOINT_PREFIX = "checkpoints"
OWN_PREFIXES = (CONTENT_PREFIX, CHECKPOINT_PREFIX)
"""Where the platform keeps its own files; ``s3://`` references of users do not reach below them."""

_BLOCK_BYTES = 1024 * 1024
_NO_ROOM_CODES = {
    "InsufficientStorage",
    "507",
    "XMinioStorageFull",
    "QuotaExceeded",
    "EntityTooLarge",
}  # as MinIO, Ceph and AWS say it
_GONE_CODES = {"404", "NoSuchKey", "NotFound"}


class ManifestEntry(TypedDict):
    """One file of a stored folder; ``path`` is relative, with forward slashes."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """Where content lies and what it is: the columns of an Artifact or Checkpoint."""

    uri: str
    sha256: str
    size_bytes: int
    is_folder: bool
    manifest: list[ManifestEntry] = field(default_factory=list)


class ContentMissing(Exception):
    """The store has no such object."""


class ContentCorrupt(Exception):
    """An object in the store is not what its digest says."""


def store_path(path: Path, *, prefix: str = CONTENT_PREFIX) -> StoredObject:
    """Copy a file or a whole folder into the store and return what it became.

    Raises: InvalidFile: a link or special file is among it. StorageFull: no room; nothing half-written stays.
    Unavailable: the object store cannot be reached.
    """
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        raise InvalidFile(f"only files and folders can be stored, got {path.name!r}")
    if path.is_file():
        sha256, size_bytes = digest_file(path)
        uri = f"{prefix}/{sha256[:2]}/{sha256}"
        _put(path, uri, sha256, size_bytes)
        return StoredObject(uri=uri, sha256=sha256, size_bytes=size_bytes, is_folder=False)
    manifest = describe_folder(path)
    sha256 = manifest_digest(manifest)
    uri = f"{prefix}/{sha256[:2]}/{sha256}"
    for entry in manifest:
        _put(path / entry["path"], f"{uri}/{entry['path']}", entry["sha256"], entry["size_bytes"])
    size_bytes = sum(entry["size_bytes"] for entry in manifest)
    return StoredObject(uri=uri, sha256=sha256, size_bytes=size_bytes, is_folder=True, manifest=manifest)


def fetch(uri: str, *, manifest: Sequence[ManifestEntry], is_folder: bool, sha256: str, destination: Path) -> Path:
    """Bring an object to ``destination``, which must not exist, read-only and verified.

    Raises: FileExistsError. ContentMissing, ContentCorrupt: nothing stays at ``destination``. StorageFull. Unavailable.
    """
    if destination.exists() or destination.is_symlink():
        raise FileExistsError(f"{destination} exists already")
    try:
        if not is_folder:
            destination.parent.mkdir(parents=True, exist_ok=True)
            _get(uri, sha256, destination)
            return destination
        if manifest_digest(manifest) != sha256:
            raise ContentCorrupt(f"the manifest of {uri} does not have the digest {sha256}")
        destination.mkdir(parents=True)
        for entry in manifest:
            target = destination / _relative(entry["path"])
            target.parent.mkdir(parents=True, exist_ok=True)
            _get(f"{uri}/{entry['path']}", entry["sha256"], target)
    except BaseException:
        remove_tree(destination)
        raise
    return destination


def open_stored(uri: str) -> File[bytes]:
    """Open a stored file for reading in binary.

    Raises: ContentMissing: there is none.
    """
    with _translated(uri):
        return default_storage.open(uri, "rb")


def remove_stored(uri: str, *, manifest: Sequence[ManifestEntry], is_folder: bool) -> None:
    """Delete an object; deleting what is gone already does nothing."""
    names = [f"{uri}/{_relative(entry['path'])}" for entry in manifest] if is_folder else [uri]
    for name in names:
        with _translated(name):
            default_storage.delete(name)
    if isinstance(default_storage, FileSystemStorage):
        _remove_empty_folders(Path(default_storage.path(uri)), own_place=uri.startswith(f"{CHECKPOINT_PREFIX}/"))


def describe_folder(path: Path) -> list[ManifestEntry]:
    """Return the manifest of a folder, sorted by path; empty folders are not part of it.

    Raises: InvalidFile: a link or special file is among it.
    """
    entries: list[ManifestEntry] = []
    for item in sorted(path.rglob("*")):
        if item.is_dir() and not item.is_symlink():
            continue
        if item.is_symlink() or not item.is_file():
            raise InvalidFile(f"only files and folders can be stored, got {item.relative_to(path).as_posix()!r}")
        sha256, size_bytes = digest_file(item)
        entries.append({"path": item.relative_to(path).as_posix(), "sha256": sha256, "size_bytes": size_bytes})
    return sorted(entries, key=lambda entry: entry["path"])


def manifest_digest(manifest: Sequence[ManifestEntry]) -> str:
    """Return the digest of a folder: SHA-256 over its sorted manifest as compact JSON."""
    text = json.dumps(list(manifest), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def digest_file(path: Path) -> tuple[str, int]:
    """Return SHA-256 and size in bytes of a file."""
    with path.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256")
        return digest.hexdigest(), source.tell()


def _put(source: Path, name: str, sha256: str, size_bytes: int) -> None:
    with _translated(name):
        if isinstance(default_storage, FileSystemStorage):
            _put_locally(source, Path(default_storage.path(name)), sha256)
        elif not (default_storage.exists(name) and default_storage.size(name) == size_bytes):
            with source.open("rb") as content:
                default_storage.save(name, File(content))


def _put_locally(source: Path, target: Path, sha256: str) -> None:
    if target.is_file() and digest_file(target)[0] == sha256:
        return
    with _draft_of(target) as draft:
        _copy_verified(source.open("rb"), draft, sha256, durable=True)
        draft.replace(target)


def _get(name: str, sha256: str, target: Path) -> None:
    with _translated(name):
        if not isinstance(default_storage, FileSystemStorage):
            with _draft_of(target) as draft:
                _copy_verified(default_storage.open(name, "rb"), draft, sha256)
                draft.replace(target)
            return
        stored = Path(default_storage.path(name))
        if digest_file(stored)[0] != sha256:
            raise ContentCorrupt(f"{name} does not have the digest {sha256}")
        try:
            os.link(stored, target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                raise
            with _draft_of(target) as draft:  # another filesystem, or one without links
                _copy_verified(stored.open("rb"), draft, sha256)
                draft.replace(target)


@contextmanager
def _draft_of(target: Path) -> Iterator[Path]:
    """Give a name beside ``target`` to write to; it is gone afterwards, renamed or removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".draft-", dir=target.parent)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _copy_verified(source: BinaryIO | File[bytes], draft: Path, sha256: str, *, durable: bool = False) -> None:
    digest = hashlib.sha256()
    with source, draft.open("wb") as copy:
        while block := source.read(_BLOCK_BYTES):
            digest.update(block)
            copy.write(block)
        copy.flush()
        os.fchmod(copy.fileno(), 0o444)
        if durable:
            os.fsync(copy.fileno())
    if digest.hexdigest() != sha256:
        raise ContentCorrupt(f"the content read for {draft.parent.name} does not have the digest {sha256}")


def _relative(path: str) -> str:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise ContentCorrupt(f"a manifest must hold relative paths, got {path!r}")
    return path


def _remove_empty_folders(path: Path, *, own_place: bool) -> None:
    """Remove what is left of a deleted folder; in the place of one node's checkpoints, the folders around it as well."""
    if path.is_dir():
        remove_tree(path)
    if not own_place:
        return  # another store may be making a folder of the same beginning right now
    for parent in path.relative_to(default_storage.path(CHECKPOINT_PREFIX)).parents[:-1]:
        with suppress(OSError):  # not empty: another checkpoint lies there
            Path(default_storage.path(f"{CHECKPOINT_PREFIX}/{parent.as_posix()}")).rmdir()


def remove_tree(path: Path) -> None:
    """Remove a file or a folder with everything in it, as far as possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Turn the errors of disks and object stores into the platform's own."""
    try:
        yield
    except FileNotFoundError as error:
        raise ContentMissing(f"the store has no {name}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("the disk of the file store is full; free some space or delete old runs") from error
        raise
    except _object_store_errors() as error:
        raise _from_answer(error, name) from error


def _object_store_errors() -> tuple[type[Exception], ...]:
    if isinstance(default_storage, FileSystemStorage):
        return ()
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return (ClientError, BotoCoreError, Boto3Error)


def _from_answer(error: Exception, name: str) -> Exception:
    code = str(getattr(error, "response", {}).get("Error", {}).get("Code", "")) or str(error)
    if any(known in code for known in _NO_ROOM_CODES):
        return StorageFull("the object store is full; free some space or delete old runs")
    if code in _GONE_CODES:
        return ContentMissing(f"the store has no {name}")
    return Unavailable(f"the object store could not serve {name}: {error}")
