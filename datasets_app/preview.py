"""Rows of a stored dataset file, a page at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.files.storage import FileSystemStorage, default_storage

from celery_workers.data.formats import FileFormat, read_rows
from celery_workers.data.plain import plain
from celery_workers.data.rows import SourceFile, SourceRow
from datasets_app.models import DatasetVersion, WaitingUpload
from platform_site.common import store

MAX_PAGE_CHARACTERS = 2 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Page:
    """Rows as they stand in the file. ``next_offset`` is None on the last page."""

    rows: list[dict[str, object]]
    next_offset: int | None


def read_page(version: DatasetVersion, *, offset: int, limit: int) -> Page:
    """Return up to ``limit`` rows after the first ``offset``; fewer where they are very long.

    Raises: ContentMissing: the file is gone from the store. Unavailable: the store cannot be reached.
    """
    rows: list[dict[str, object]] = []
    characters = 0
    with local_file(version) as path:
        source = SourceFile(path=path, name=version.file_name)
        for position, row in enumerate(_rows(source, FileFormat(version.file_format))):
            if position < offset:
                continue
            if len(rows) >= limit or characters >= MAX_PAGE_CHARACTERS:
                return Page(rows=rows, next_offset=position)
            shown = _shown(row)
            characters += sum(len(str(value)) for value in shown.values())
            rows.append(shown)
    return Page(rows=rows, next_offset=None)


def _rows(source: SourceFile, file_format: FileFormat) -> Iterator[SourceRow]:
    for batch in read_rows(source, file_format):
        yield from batch.rows


@contextmanager
def local_file(version: DatasetVersion | WaitingUpload) -> Iterator[Path]:
    """Give a local path of a stored file, for the length of a ``with``.

    Raises: ContentMissing, ContentCorrupt, Unavailable: as the store.
    """
    if isinstance(default_storage, FileSystemStorage):
        path = Path(default_storage.path(version.uri))
        if not path.is_file():
            raise store.ContentMissing(f"the store has no {version.uri}")
        yield path
        return
    with tempfile.TemporaryDirectory(dir=settings.FILE_UPLOAD_TEMP_DIR) as folder:
        target = Path(folder) / "content"
        yield store.fetch(version.uri, manifest=[], is_folder=False, sha256=version.sha256, destination=target)


def _shown(row: SourceRow) -> dict[str, object]:
    """Return a row with its number; a column of that name is shown as ``source_row_number``."""
    if row.values is None:
        return {"row_number": row.number, "problem": row.problem.message if row.problem else ""}
    values = {("source_row_number" if name == "row_number" else name): plain(value) for name, value in row.values.items()}
    return {"row_number": row.number, **values}
