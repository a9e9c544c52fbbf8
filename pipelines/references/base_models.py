"""References to base models: ``bundled:``, ``local:``, ``model:`` and ids of the Hugging Face Hub.

Weights are safetensors only, and no code that comes with a model ever runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from django.conf import settings

from celery_workers.contract.errors import AgentError, UserInputError
from celery_workers.modeling import bundled
from models_app.models import ModelVersion
from pipelines.references import hub
from pipelines.references.digests import digest_of
from pipelines.references.resolution import Resolution, UnresolvedReference
from platform_site.common import store

if TYPE_CHECKING:
    from platform_site.models import User


def resolve_base_model(value: str, user: User) -> Resolution:
    """Find the model that ``value`` names.

    Raises: UnresolvedReference: it is not there, not this user's, or not a base model in safetensors.
    """
    scheme, _, name = value.partition(":")
    if scheme == "bundled":
        return _bundled(name)
    if scheme == "local":
        path = resolve_local_folder(name)
        return Resolution(kind="base_model", digest=_folder_digest(path), source={"type": "local", "name": name})
    if scheme == "model":
        return _model_version(value, name, user)
    return hub.resolve_hub(value)


def materialize_base_model(value: str, resolution: Resolution) -> Path:
    """Return the local folder of the model. A bundled model's may not be there yet: the agent process converts it.

    Raises: UserInputError: it is gone or has changed since. InfrastructureError: the hub or the store cannot be reached.
    """
    source = resolution.source
    models = Path(settings.VAR_DIR) / "models"
    if source["type"] == "bundled":
        return models / "bundled" / str(source["name"])
    if source["type"] == "artifact":
        return _fetch_artifact(resolution, models / "artifacts")
    if source["type"] == "hub":
        return hub.download(str(source["repository"]), str(source["revision"]))
    try:
        path = resolve_local_folder(str(source["name"]))
    except UnresolvedReference as error:
        raise UserInputError(error.detail, code=error.error_code) from error
    if _folder_digest(path) != resolution.digest:
        raise UserInputError(f"{value} has changed since the run was started; start the run again", code="reference_changed")
    return path


def _bundled(name: str) -> Resolution:
    try:
        digest = bundled.digest(name)
    except AgentError as error:
        raise UnresolvedReference(error.message, code=error.code) from error
    return Resolution(kind="base_model", digest=digest, source={"type": "bundled", "name": name})


def resolve_local_folder(name: str) -> Path:
    """Return the folder that ``local:<name>`` means.

    Raises: UnresolvedReference: there is none under ``MODEL_ROOTS``, or it is no model in safetensors.
    """
    roots = [Path(root).resolve() for root in settings.ENV.model_roots]
    if not roots:
        raise UnresolvedReference(f"local:{name} needs MODEL_ROOTS, which names no folder on this server")
    for root in roots:
        path = (root / name).resolve()
        if path.is_relative_to(root) and path != root and path.is_dir():
            _check_weights(path, f"local:{name}")
            return path
    raise UnresolvedReference(f"there is no folder {name!r} under MODEL_ROOTS")


def _check_weights(path: Path, label: str) -> None:
    if not (path / "config.json").is_file():
        raise UnresolvedReference(f"{label} has no config.json, so it is not a model")
    if not any(path.glob("*.safetensors")):
        raise UnresolvedReference(f"{label} has no *.safetensors; other weights (pickle) are never loaded")


def _folder_digest(path: Path) -> str:
    """Return the digest of a model folder, as the content store would name it; links out of it are followed and read."""
    files = sorted(item for item in path.rglob("*") if item.is_file())
    manifest: list[store.ManifestEntry] = [
        {"path": item.relative_to(path).as_posix(), "sha256": digest_of(item), "size_bytes": item.stat().st_size}
        for item in files
    ]
    return store.manifest_digest(sorted(manifest, key=lambda entry: entry["path"]))


def _model_version(value: str, model_id: str, user: User) -> Resolution:
    try:
        found = ModelVersion.objects.visible_to(user).select_related("artifact").filter(pk=UUID(model_id)).first()
    except ValueError:
        found = None
    if found is None:
        raise UnresolvedReference(f"there is no {value}; list yours with GET /api/v1/models")
    if found.kind in (ModelVersion.Kind.ADAPTER, ModelVersion.Kind.GGUF):
        raise UnresolvedReference(
            f"{value} is of kind {found.kind}; a base model must be base or merged: export it merged first and name that"
            " version; or, to train on an adapter, link its training's model output to the next one's model input"
        )
    if found.artifact is None:
        return resolve_base_model(found.base_model, user)
    artifact = found.artifact
    source = {"type": "artifact", "artifact_id": str(artifact.pk), "uri": artifact.uri, "manifest": artifact.manifest}
    return Resolution(kind="base_model", digest=artifact.sha256, source=source)


def _fetch_artifact(resolution: Resolution, cache: Path) -> Path:
    folder = cache / resolution.digest
    if folder.is_dir():
        return folder
    draft = cache / f".{resolution.digest}.{uuid4().hex}"
    manifest = resolution.source["manifest"]
    if not isinstance(manifest, list):
        raise UserInputError("the model's record has no manifest of its files", code="invalid_model")
    store.fetch(str(resolution.source["uri"]), manifest=manifest, is_folder=True, sha256=resolution.digest, destination=draft)
    try:
        draft.rename(folder)
    except OSError:
        store.remove_tree(draft)  # another attempt of this worker was first
        if not folder.is_dir():
            raise
    return folder
