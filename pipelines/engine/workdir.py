"""The folder of one attempt, and what is brought there before its child begins.

In the folder ``work`` of VAR_DIR::

    <node run>/inputs/<port>/<n>/…   the input artifacts, read-only
               references/<n>/…      files that configs point to, where they had to be copied
               checkpoint/           the folder to go on from
               work/                 the agent's own; its outputs lie below
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from django.conf import settings

from celery_workers.contract.errors import UserInputError
from celery_workers.contract.messages import PortValue
from pipelines.engine.cache import base_model_of
from pipelines.models import Artifact, NodeRun
from pipelines.references import ReferenceKind, Resolution, UnresolvedReference, materialize, resolve
from platform_site.common import store
from platform_site.common.store import ContentCorrupt, ContentMissing, remove_tree

logger = logging.getLogger(__name__)

STALE_SECONDS = 600.0


@contextmanager
def workdir_of(node_run: NodeRun) -> Iterator[Path]:
    """Make the attempt's folder, and remove it in the end, however the attempt ended: what matters is recorded."""
    folder = _root() / str(node_run.pk)
    remove_tree(folder)
    (folder / "work").mkdir(parents=True)
    try:
        yield folder
    finally:
        remove_tree(folder)


def fetch_inputs(inputs: Mapping[str, Sequence[Artifact]], folder: Path) -> dict[str, list[PortValue]]:
    """Bring the input artifacts below ``folder``, verified.

    Raises: ContentMissing, ContentCorrupt: and the artifact will not be given from the cache again. StorageFull. Unavailable.
    """
    return {
        port: [_fetch(artifact, folder / "inputs" / port / str(position)) for position, artifact in enumerate(artifacts)]
        for port, artifacts in inputs.items()
        if artifacts
    }


def fetch_references(
    node_run: NodeRun,
    inputs: Mapping[str, Sequence[Artifact]],
    folder: Path,
    *,
    known: Mapping[str, Resolution],
) -> dict[str, str]:
    """Bring everything that the config and the inputs' ``base_model`` refer to, and return the local path of each.

    Raises: UserInputError, InfrastructureError, ResourceError.
    """
    wanted = {value: Resolution.from_json(data) for value, data in node_run.references.items()}
    for artifact in (artifact for artifacts in inputs.values() for artifact in artifacts):
        base = base_model_of(artifact)
        if base and base not in wanted:
            wanted[base] = known[base] if base in known else _resolve_now(base, node_run)
    paths = {}
    for number, (value, resolution) in enumerate(wanted.items()):
        paths[value] = str(materialize(value, resolution, folder=folder / "references" / str(number)))
    return paths


def sweep_stale() -> list[Path]:
    """Remove this machine's folders of attempts that no worker holds any more, and return them.

    A folder touched within ten minutes stays: its worker may be about to notice that it has lost the attempt.
    """
    root = _root()
    if not root.is_dir():
        return []
    folders = {folder.name: folder for folder in root.iterdir() if _is_old(folder) and _is_uuid(folder.name)}
    held = {str(pk) for pk in NodeRun.objects.leased().filter(pk__in=folders).values_list("pk", flat=True)}
    stale = [folder for name, folder in folders.items() if name not in held]
    for folder in stale:
        logger.info("workdir.swept %s", folder.name)
        remove_tree(folder)
    return stale


def _fetch(artifact: Artifact, folder: Path) -> PortValue:
    target = folder / artifact.name
    try:
        store.fetch(
            artifact.uri,
            manifest=artifact.manifest,
            is_folder=artifact.is_folder,
            sha256=artifact.sha256,
            destination=target,
        )
    except (ContentMissing, ContentCorrupt):
        NodeRun.objects.filter(outputs__artifact=artifact).update(cache_key="")
        raise
    return PortValue(kind=artifact.kind, path=str(target), metadata=artifact.metadata, sha256=artifact.sha256)


def _resolve_now(value: str, node_run: NodeRun) -> Resolution:
    try:
        return resolve(value, ReferenceKind.BASE_MODEL, user=node_run.run.owner)
    except UnresolvedReference as error:
        raise UserInputError(error.detail, code=error.error_code) from error


def _root() -> Path:
    return Path(settings.VAR_DIR).resolve() / "work"


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return False


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
