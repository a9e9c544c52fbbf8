"""Uploaded files that are no dataset yet: their rows fit no format by themselves, so a person has to map the columns."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from celery_workers.contract.errors import UserInputError
from celery_workers.data.formats import FileFormat, detect_file_format
from celery_workers.data.rows import SourceFile
from datasets_app.models import WaitingUpload
from datasets_app.services import ImportedVersion, forget, import_upload, invalid_file, local_upload, readable_name
from pipelines.engine.jsonb import storable_text
from platform_site.common import store
from platform_site.common.errors import InvalidFile

if TYPE_CHECKING:
    from django.core.files.uploadedfile import UploadedFile

    from platform_site.models import User

logger = logging.getLogger(__name__)

MAX_WAITING = 20
"""Files that are kept for a user: one more, and the oldest goes."""

MAPPABLE = frozenset({"no_row_format", "no_fit_rows", "missing_column", "unused_mapping", "unknown_column"})
"""Codes of errors that another mapping may mend; of all others the file itself is to blame."""


def import_or_keep(
    *,
    user: User,
    upload: UploadedFile,
    name: str,
    file_format: FileFormat | None = None,
    mapping: Mapping[str, str] | None = None,
) -> ImportedVersion | WaitingUpload:
    """Import an upload; where only its row format is not clear, keep the file until it is mapped.

    Raises: as ``import_upload``, but for what a mapping may mend.
    """
    try:
        return import_upload(user=user, upload=upload, name=name, file_format=file_format, mapping=mapping)
    except InvalidFile as error:
        if error.error_code not in MAPPABLE:
            raise
        with local_upload(upload) as path:
            source = SourceFile(path=path, name=readable_name(upload.name))
            return keep_waiting(user=user, source=source, name=name, file_format=file_format, error=error)


def discard(waiting: WaitingUpload) -> None:
    """Remove a file that waits, and its content."""
    stored = store.StoredObject(
        uri=waiting.uri, sha256=waiting.sha256, size_bytes=waiting.size_bytes, is_folder=False, manifest=[]
    )
    waiting.delete()
    forget(stored)


def keep_waiting(
    *, user: User, source: SourceFile, name: str, file_format: FileFormat | None, error: InvalidFile
) -> WaitingUpload:
    """Keep a file whose rows fit no format, as ``error`` says, until its columns are mapped.

    Raises: InvalidFile: the file cannot be read. StorageFull. Unavailable.
    """
    try:
        found = detect_file_format(source, file_format)
    except UserInputError as unreadable:
        raise invalid_file(unreadable) from unreadable
    stored = store.store_path(source.path)
    about = {
        "file_name": source.name,
        "file_format": found.value,
        "uri": stored.uri,
        "size_bytes": stored.size_bytes,
        "code": error.error_code,
        "reason": storable_text(error.detail),
    }
    try:
        waiting, _ = WaitingUpload.objects.update_or_create(owner=user, name=name, sha256=stored.sha256, defaults=about)
    except BaseException:
        forget(stored)
        raise
    for oldest in user.waiting_uploads.newest_first()[MAX_WAITING:]:
        discard(oldest)
    logger.info("datasets.upload_waits", extra={"upload_id": str(waiting.pk), "code": error.error_code})
    return waiting
