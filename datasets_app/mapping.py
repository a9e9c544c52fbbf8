"""Say what the rows of a file are: look at what was found, try another row format and columns, keep it as a version."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from celery_workers.contract.errors import UserInputError
from celery_workers.data.formats import FileFormat
from celery_workers.data.mapping_choice import Choice, LookedAt, look, look_at_choice, write_chosen
from celery_workers.data.rows import SourceFile
from datasets_app.models import DatasetVersion, WaitingUpload
from datasets_app.preview import local_file
from datasets_app.services import Examination, ImportedVersion, examine, forget, invalid_file, keep_child, keep_version
from datasets_app.uploads import discard
from platform_site.common import store

logger = logging.getLogger(__name__)

SHOWN_ROWS = 5


def look_at_file(kept: DatasetVersion | WaitingUpload) -> LookedAt:
    """Return the columns and first rows of a file, and what its rows are by themselves.

    Raises: InvalidFile: it cannot be read. ContentMissing. Unavailable.
    """
    with _translated(), _source(kept) as source:
        return look(source, FileFormat(kept.file_format), shown_rows=SHOWN_ROWS)


def try_choice(kept: DatasetVersion | WaitingUpload, choice: Choice) -> LookedAt:
    """Return the first rows as ``choice`` would have them kept; nothing is stored.

    Raises: InvalidFile: the choice does not fit the file. ContentMissing. Unavailable.
    """
    with _translated(), _source(kept) as source:
        return look_at_choice(source, FileFormat(kept.file_format), choice, shown_rows=SHOWN_ROWS)


def map_version(version: DatasetVersion, choice: Choice) -> ImportedVersion:
    """Keep the rows of ``version`` as ``choice`` has them, as the next version of its dataset.

    Raises: InvalidFile: the choice does not fit the file, or no row is fit to train on. StorageFull. ContentMissing.
    """
    with _written(version, choice) as (source, found, stored):
        changes: dict[str, object] = {
            "row_format": choice.row_format.value,
            "columns": dict(choice.columns),
            "rows_before": version.rows,
            "rows_after": found.rows,
        }
        made = keep_child(version, source, found, stored, changes)
    logger.info("datasets.mapped", extra={"version_id": str(made.version.pk)})
    return made


def map_upload(waiting: WaitingUpload, choice: Choice) -> ImportedVersion:
    """Make a version of the file that waits; it waits no longer.

    Raises: as ``map_version``.
    """
    with _written(waiting, choice) as (source, found, stored):
        made = keep_version(waiting.owner, waiting.name, source, found, stored)
    discard(waiting)
    logger.info("datasets.imported", extra={"version_id": str(made.version.pk), "size_bytes": made.version.size_bytes})
    return made


@contextmanager
def _source(kept: DatasetVersion | WaitingUpload) -> Iterator[SourceFile]:
    with local_file(kept) as path:
        yield SourceFile(path=path, name=kept.file_name)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except UserInputError as error:
        raise invalid_file(error) from error


@contextmanager
def _written(
    kept: DatasetVersion | WaitingUpload, choice: Choice
) -> Iterator[tuple[SourceFile, Examination, store.StoredObject]]:
    """Give the rewritten file, what it holds and where it is stored; after an error it is not."""
    with tempfile.TemporaryDirectory(dir=settings.FILE_UPLOAD_TEMP_DIR) as folder, _source(kept) as source:
        target = Path(folder) / "mapped.jsonl"
        with _translated():
            write_chosen(source, target, FileFormat(kept.file_format), choice)
        mapped = SourceFile(path=target, name=f"{kept.file_name.partition('.')[0] or 'rows'}.jsonl")
        pairs = ", ".join(f"{part} from {column!r}" for part, column in choice.columns.items())
        found = examine(mapped, FileFormat.JSONL, note=f"Mapped by hand: {pairs}. ")
        stored = store.store_path(target)
        try:
            yield mapped, found, stored
        except BaseException:
            forget(stored)
            raise
