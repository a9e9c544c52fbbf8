"""Datasets of the Hugging Face Hub: pinned to a commit, data files only, and every byte checked against what the Hub lists."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from celery_workers.contract.errors import InfrastructureError
from datasets_app.hub_files import CONVERTED_REVISION, Choice, HubFile, choose_converted, choose_file, choose_split
from pipelines.references import hub
from platform_site.common.errors import DomainError, InvalidInput, Problem, StorageFull, TooLarge, Unavailable

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAX_LISTED = 20_000
_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """What was asked for; empty texts were left out."""

    repository: str
    revision: str = ""
    subset: str = ""
    split: str = ""
    file: str = ""


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """Files of one commit. ``is_converted``: of the Parquet that the Hub made, as the repository has no file that is read."""

    repository: str
    commit: str
    choice: Choice
    is_converted: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.choice.files)


def check_source(source: HubSource) -> None:
    """Refuse what needs no network to be refused.

    Raises: InvalidInput: no id of a repository, or an impossible file. Unavailable: the server works offline.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(source.repository)
    except HFValidationError as error:
        raise _invalid("repository", f"repository must be an id of the Hub such as owner/name: {error}") from error
    if source.file.startswith("/") or ".." in source.file.split("/"):
        raise _invalid("file", f"file must be a path inside the repository, got {source.file!r}")
    if hub.is_offline():
        message = (
            "the server works offline (HF_HUB_OFFLINE is set): download the file where there is a network and upload it, "
            "or start the server without that variable"
        )
        raise Unavailable(message, code="hub_offline")


def pin(source: HubSource) -> Pinned:
    """Ask the Hub which commit and which files ``source`` stands for now.

    Raises: InvalidInput: there is no such thing, or it may not be read. TooLarge. InfrastructureError: no answer.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.endpoint(), token=settings.ENV.hf_token or False)
    with _translated(source):
        found = _choose(api, source)
    limit = settings.ENV.max_import_bytes
    if found.size_bytes > limit:
        message = f"an import may have at most {limit} bytes (MAX_IMPORT_BYTES), {source.repository} has {found.size_bytes}"
        raise TooLarge(message, errors=[Problem(message=message, code="too_large", field="file")])
    return found


def _choose(api: HfApi, source: HubSource) -> Pinned:
    info = api.dataset_info(source.repository, revision=source.revision or None, timeout=hub.TIMEOUT_SECONDS)
    if info.gated:
        api.auth_check(source.repository, repo_type="dataset")  # the card of a gated dataset is public, its files are not
    commit = _commit(source, info.sha)
    files = _list(api, source.repository, commit)
    is_converted = source.revision == CONVERTED_REVISION
    if source.file:
        return Pinned(repository=source.repository, commit=commit, choice=choose_file(files, source.file))
    if not is_converted and (source.revision or any(file.is_data for file in files)):
        card = info.card_data.to_dict() if info.card_data else {}
        choice = choose_split(files, card, subset=source.subset, split=source.split)
        return Pinned(repository=source.repository, commit=commit, choice=choice)
    if not is_converted:
        commit, files = _converted(api, source)
    choice = choose_converted(files, subset=source.subset, split=source.split)
    return Pinned(repository=source.repository, commit=commit, choice=choice, is_converted=True)


def _converted(api: HfApi, source: HubSource) -> tuple[str, list[HubFile]]:
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        info = api.dataset_info(source.repository, revision=CONVERTED_REVISION, timeout=hub.TIMEOUT_SECONDS)
    except RevisionNotFoundError as error:
        message = (
            f"{source.repository} has no data file that can be read, and the Hub has not converted it to Parquet; "
            "loading scripts are never run"
        )
        raise _invalid("repository", message, "no_data_file") from error
    commit = _commit(source, info.sha)
    return commit, _list(api, source.repository, commit)


def _list(api: HfApi, repository: str, commit: str) -> list[HubFile]:
    from huggingface_hub.hf_api import RepoFile

    tree = api.list_repo_tree(repository, recursive=True, revision=commit, repo_type="dataset")
    listed = list(islice((item for item in tree if isinstance(item, RepoFile)), MAX_LISTED))
    return [
        HubFile(path=item.path, size_bytes=item.size, blob_id=item.blob_id, sha256=item.lfs.sha256 if item.lfs else "")
        for item in listed
        if not item.path.startswith("/") and ".." not in item.path.split("/")
    ]


def _commit(source: HubSource, sha: str | None) -> str:
    if not sha:
        raise InfrastructureError(f"the Hub names no commit for {source.repository}", code="hub_unavailable")
    return sha


def download(pinned: Pinned, folder: Path, *, on_bytes: Callable[[int], None]) -> list[tuple[Path, dict[str, object]]]:
    """Bring the files into ``folder``; return the path and the lineage of each. What is there already is not sent again.

    ``on_bytes`` is called with the number of each piece's bytes, and may raise to stop.

    Raises: InfrastructureError: the Hub cannot be reached, or sends other bytes than it lists. InvalidInput: it refuses.
    """
    return [_bring(pinned, file, folder, on_bytes) for file in pinned.choice.files]


def _bring(pinned: Pinned, file: HubFile, folder: Path, on_bytes: Callable[[int], None]) -> tuple[Path, dict[str, object]]:
    from huggingface_hub import hf_hub_download
    from tqdm import tqdm

    class Counter(tqdm):
        """Tells ``on_bytes`` instead of drawing a bar."""

        def __init__(self, *args: object, **kwargs: object) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            on_bytes(int(n or 0))
            return super().update(n)

    with _translated(HubSource(repository=pinned.repository, revision=pinned.commit, file=file.path)):
        path = hf_hub_download(
            pinned.repository,
            file.path,
            repo_type="dataset",
            revision=pinned.commit,
            local_dir=folder,
            endpoint=hub.endpoint(),
            token=settings.ENV.hf_token or False,
            etag_timeout=hub.TIMEOUT_SECONDS,
            tqdm_class=Counter,
        )
    return Path(path), _verified(Path(path), file)


def _verified(path: Path, file: HubFile) -> dict[str, object]:
    """Return the lineage of a file whose bytes are those that the Hub lists; remove it if they are not."""
    size_bytes = path.stat().st_size
    # Git names a small file by this digest: no protection against forgery, but what the Hub says of it.
    sha256, blob = hashlib.sha256(), hashlib.sha1(f"blob {size_bytes}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            sha256.update(block)
            blob.update(block)
    is_right = sha256.hexdigest() == file.sha256 if file.sha256 else blob.hexdigest() == file.blob_id
    if not is_right or size_bytes != file.size_bytes:
        path.unlink()
        message = f"{file.path} came with other bytes than the Hub lists for it ({size_bytes} of {file.size_bytes} bytes)"
        raise InfrastructureError(message, code="wrong_digest")
    return {"path": file.path, "size_bytes": size_bytes, "sha256": sha256.hexdigest()}


@contextmanager
def _translated(source: HubSource) -> Iterator[None]:
    """Say what the Hub refuses in words that tell what to do; everything else is an outage."""
    from huggingface_hub import errors

    name = source.repository
    try:
        yield
    except DomainError:
        raise
    except errors.GatedRepoError as error:
        message = f"{name} is gated: accept its terms on the Hub, and have the operator set HF_TOKEN"
        raise _invalid("repository", message, "gated") from error
    except errors.RevisionNotFoundError as error:
        raise _invalid("revision", f"{name} has no revision {source.revision!r}", "unknown_revision") from error
    except errors.RepositoryNotFoundError as error:
        message = f"the Hub has no dataset {name!r}, or it is private and HF_TOKEN may not see it"
        raise _invalid("repository", message, "unknown_repository") from error
    except errors.RemoteEntryNotFoundError as error:
        raise _invalid("file", f"{name} has no file {source.file!r} at {source.revision}", "unknown_file") from error
    except (*hub.outages(), errors.FileMetadataError, errors.LocalEntryNotFoundError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise StorageFull(f"there is no room for the files of {name}") from error
        reason = str(error).partition("\n")[0][:300]
        message = (
            f"the Hub ({hub.endpoint()}) cannot be reached or did not send all: {type(error).__name__}: {reason}. "
            "Without a network, download the file elsewhere and upload it"
        )
        raise InfrastructureError(message, code="hub_unavailable") from error


def _invalid(field: str, message: str, code: str = "invalid") -> InvalidInput:
    return InvalidInput(message, errors=[Problem(message=message, code=code, field=field)], code=code)


def source_of(asked: Mapping[str, object]) -> HubSource:
    """Read what an import keeps of its source."""
    return HubSource(**{name: str(asked.get(name) or "") for name in ("repository", "revision", "subset", "split", "file")})


def as_origin(pinned: Pinned, source: HubSource) -> dict[str, object]:
    """Return what the first attempt pins."""
    return {
        "type": "hub",
        "repository": pinned.repository,
        "revision": source.revision,
        "commit": pinned.commit,
        "is_converted": pinned.is_converted,
        "subset": pinned.choice.subset,
        "split": pinned.choice.split,
        "files": [
            {"path": file.path, "size_bytes": file.size_bytes, "blob_id": file.blob_id, "sha256": file.sha256}
            for file in pinned.choice.files
        ],
    }


def pinned_of(origin: Mapping[str, object]) -> Pinned:
    """Read what an earlier attempt pinned."""
    listed = origin["files"]
    files = [HubFile(**entry) for entry in listed] if isinstance(listed, list) else []
    return Pinned(
        repository=str(origin["repository"]),
        commit=str(origin["commit"]),
        is_converted=origin["is_converted"] is True,
        choice=Choice(files=files, subset=str(origin["subset"]), split=str(origin["split"])),
    )
