"""Ask for an import of data from the Hub or a bucket, and forget one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from django.db import transaction

from celery_workers.data.formats import FileFormat
from celery_workers.tasks import wake_imports
from datasets_app import hub
from datasets_app.models import DatasetImport
from pipelines.references import resolve
from pipelines.references.find import ReferenceKind
from platform_site.common.errors import Conflict

if TYPE_CHECKING:
    from platform_site.models import User

MAX_OPEN = 20
"""Imports of one user that wait or run at once."""


def request_import(
    *,
    user: User,
    source: Mapping[str, str],
    name: str = "",
    file_format: FileFormat | None = None,
    columns: Mapping[str, str] | None = None,
) -> DatasetImport:
    """Have a worker bring ``source`` as the next version of the user's dataset ``name``; without a name, the source's own.

    Raises: InvalidInput: ``source`` is malformed. UnresolvedReference: no such object in a bucket. Unavailable: the server
    works offline. Conflict: the user has too many imports that have not ended.
    """
    if source["type"] == "s3":
        resolve(source["address"], ReferenceKind.DATA, user=user)
    else:
        hub.check_source(hub.source_of(source))
    open_imports = DatasetImport.objects.visible_to(user).exclude(status__in=("succeeded", "failed")).count()
    if open_imports >= MAX_OPEN:
        raise Conflict(f"at most {MAX_OPEN} imports may wait or run, got {open_imports}; wait for them or delete some")
    made = DatasetImport.objects.create(
        owner=user,
        name=name or _name_of(source),
        source=dict(source),
        file_format=file_format.value if file_format else "",
        columns=dict(columns or {}),
    )
    transaction.on_commit(wake_imports)
    return made


def _name_of(source: Mapping[str, str]) -> str:
    if source["type"] == "s3":
        return (source["address"].rpartition("/")[2].partition(".")[0] or "import")[:200]
    parts = (source["repository"].rpartition("/")[2], source.get("subset"), source.get("split"))
    return "-".join(part for part in parts if part)[:200]
