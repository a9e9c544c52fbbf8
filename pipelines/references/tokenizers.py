"""The tokenizer of a base model, without its weights: what is needed to look at tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from django.conf import settings

from celery_workers.contract.errors import UserInputError
from pipelines.references import hub
from pipelines.references.base_models import materialize_base_model, resolve_base_model, resolve_local_folder
from pipelines.references.resolution import Resolution
from platform_site.common import store

if TYPE_CHECKING:
    from platform_site.models import User

WEIGHTS = (".safetensors", ".safetensors.index.json")


@dataclass(frozen=True, kw_only=True)
class TokenizerFolder:
    """A local folder with tokenizer, chat template and configs. ``bundled``: the model to convert where it is not there."""

    path: Path
    bundled: str | None = None


def find_tokenizer(value: str, *, user: User) -> TokenizerFolder:
    """Bring the tokenizer of the base model ``value``; of the hub's and the store's only the small files are fetched.

    Raises: UnresolvedReference: as ``resolve``. UserInputError, InfrastructureError, and what the store raises: it cannot be
    brought.
    """
    scheme, _, name = value.partition(":")
    if scheme == "local":
        return TokenizerFolder(path=resolve_local_folder(name))  # its weights need no digest here
    resolution = resolve_base_model(value, user)
    source = resolution.source
    if source["type"] == "bundled":
        return TokenizerFolder(path=materialize_base_model(value, resolution), bundled=str(source["name"]))
    if source["type"] == "hub":
        return TokenizerFolder(path=hub.download_tokenizer(str(source["repository"]), str(source["revision"])))
    if source["type"] == "artifact":
        return TokenizerFolder(path=_fetch_small_files(resolution))
    return TokenizerFolder(path=materialize_base_model(value, resolution))


def _fetch_small_files(resolution: Resolution) -> Path:
    """Return a folder with all files of a stored model but its weights."""
    models = Path(settings.VAR_DIR) / "models"
    for folder in (models / "artifacts" / resolution.digest, models / "tokenizers" / resolution.digest):
        if folder.is_dir():
            return folder
    manifest = resolution.source["manifest"]
    if not isinstance(manifest, list):
        raise UserInputError("the model's record has no manifest of its files", code="invalid_model")
    small = [entry for entry in manifest if not str(entry["path"]).endswith(WEIGHTS)]
    draft = folder.with_name(f".{resolution.digest}.{uuid4().hex}")
    sha256 = store.manifest_digest(small)
    store.fetch(str(resolution.source["uri"]), manifest=small, is_folder=True, sha256=sha256, destination=draft)
    try:
        draft.rename(folder)
    except OSError:
        store.remove_tree(draft)  # another request was first
        if not folder.is_dir():
            raise
    return folder
