"""Import an uploaded file as a version of a dataset."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.files.uploadedfile import TemporaryUploadedFile, UploadedFile
from django.db import transaction

from celery_workers.contract.errors import UserInputError
from celery_workers.data.column_mapping import write_mapped
from celery_workers.data.formats import FileFormat
from celery_workers.data.importing import OpenedRows, open_rows
from celery_workers.data.report_building import ReportBuilder
from celery_workers.data.rows import SourceFile
from celery_workers.data.validation_report import ValidationReport
from datasets_app.models import Dataset, DatasetVersion, WaitingUpload
from pipelines.engine.jsonb import storable, storable_object, storable_text
from pipelines.models import Artifact
from platform_site.common import store
from platform_site.common.errors import InvalidFile, Problem, TooLarge

if TYPE_CHECKING:
    from platform_site.models import User

logger = logging.getLogger(__name__)

_NAME_ENDINGS = {
    FileFormat.CSV: ("csv", "tsv", "tab"),
    FileFormat.TSV: ("tsv", "tab"),
    FileFormat.JSON: ("json",),
    FileFormat.JSONL: ("jsonl", "ndjson", "json"),
    FileFormat.PARQUET: ("parquet",),
    FileFormat.TEXT: ("txt", "text"),
    FileFormat.MARKDOWN: ("md", "markdown"),
}


@dataclass(frozen=True, kw_only=True)
class ImportedVersion:
    """The version that holds the upload, and whether it was made for it."""

    version: DatasetVersion
    created: bool


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What one pass over the file found."""

    file_format: FileFormat
    row_format: str
    reason: str
    rows: int
    columns: list[dict[str, str]]
    report: dict[str, object]
    statistics: dict[str, object]


def import_upload(
    *,
    user: User,
    upload: UploadedFile,
    name: str,
    file_format: FileFormat | None = None,
    mapping: Mapping[str, str] | None = None,
) -> ImportedVersion:
    """Check an uploaded file and keep it as the next version of the user's dataset ``name``.

    With a ``mapping`` (``{"prompt": "frage"}``) the version holds the rows under the mapped names, as JSON Lines, so that
    runs, fixes and views need no mapping of their own.

    The same content under the same name is the version that exists already. After an error there is neither a row nor a
    stored file.

    Raises: TooLarge: over ``MAX_UPLOAD_BYTES``. InvalidFile: it cannot be read, fits no row format, or no row is fit to
    train on. StorageFull. Unavailable.
    """
    limit = settings.ENV.max_upload_bytes
    if upload.size is None or upload.size > limit:
        raise TooLarge(f"a dataset may have at most {limit} bytes, got {upload.size}")
    with local_upload(upload) as path:
        source = SourceFile(path=path, name=readable_name(upload.name))
        return import_file(user=user, source=source, name=name, file_format=file_format, mapping=mapping)


def import_file(
    *,
    user: User,
    source: SourceFile,
    name: str,
    file_format: FileFormat | None = None,
    mapping: Mapping[str, str] | None = None,
    origin: Mapping[str, object] | None = None,
    settle: Callable[[DatasetVersion], None] = lambda version: None,  # noqa: ARG005
) -> ImportedVersion:
    """Check a local file and keep it as the next version of the user's dataset ``name``, found at ``origin``.

    ``settle`` is called with the version in the transaction that makes it; what it raises undoes both.

    Raises: as ``import_upload``, and what ``settle`` raises.
    """
    with _mapped(source, file_format, mapping or {}) as mapped:
        sha256, size_bytes = store.digest_file(mapped.source.path)
        if existing := _find_version(user, name, sha256):
            settle(existing)
            return ImportedVersion(version=existing, created=False)
        found = examine(mapped.source, mapped.file_format, note=mapped.note)
        stored = store.store_path(mapped.source.path)
        try:
            with transaction.atomic():
                imported = keep_version(user, name, mapped.source, found, stored, origin=origin)
                settle(imported.version)
        except BaseException:
            forget(stored)
            raise
    logger.info("datasets.imported", extra={"version_id": str(imported.version.pk), "size_bytes": size_bytes})
    return imported


@dataclass(frozen=True, kw_only=True)
class _Mapped:
    """The file to keep; ``note`` says how its columns were mapped, if they were."""

    source: SourceFile
    file_format: FileFormat | None
    note: str = ""


@contextmanager
def _mapped(source: SourceFile, file_format: FileFormat | None, mapping: Mapping[str, str]) -> Iterator[_Mapped]:
    """Give the file with the mapped columns; the file itself where there is no mapping."""
    if not mapping:
        yield _Mapped(source=source, file_format=file_format)
        return
    with tempfile.NamedTemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR, suffix=".mapped") as copy:
        target = Path(copy.name)
        try:
            write_mapped(source, target, mapping=mapping, file_format=file_format)
        except UserInputError as error:
            raise invalid_file(error) from error
        pairs = ", ".join(f"{part} from {column!r}" for part, column in mapping.items())
        note = f"Mapped at upload: {pairs}. "
        mapped = SourceFile(path=target, name=f"{source.name.partition('.')[0] or source.name}.jsonl")
        yield _Mapped(source=mapped, file_format=FileFormat.JSONL, note=note)


def invalid_file(error: UserInputError) -> InvalidFile:
    """Return what a request answers where a file or its mapping is at fault."""
    problem = Problem(message=error.message, code=error.code, field="columns" if error.field == "columns" else "file")
    return InvalidFile(error.message, errors=[problem], code=error.code)


def examine(source: SourceFile, file_format: FileFormat | None = None, *, note: str = "") -> Examination:
    """Read a file from end to end and check every row; ``note`` goes before the reason for its row format.

    Raises: InvalidFile: it cannot be read, fits no row format, or no row is fit to train on.
    """
    try:
        opened = open_rows(source, file_format=file_format)
        report = _check(opened)
    except UserInputError as error:
        raise invalid_file(error) from error
    if not report.fit_rows:
        raise _nothing_fit(source, report)
    return Examination(
        file_format=opened.file_format,
        row_format=opened.detected.format.value,
        reason=note + opened.detected.reason,
        rows=report.rows,
        columns=opened.columns.as_json(),
        report=report.as_document().model_dump(mode="json"),
        statistics=report.statistics,
    )


def _check(opened: OpenedRows) -> ValidationReport:
    builder = ReportBuilder(opened.detected)
    for block, _ in opened.blocks():
        builder.add_block(block)
    return builder.build()


def _nothing_fit(source: SourceFile, report: ValidationReport) -> InvalidFile:
    problems = [
        Problem(message=f"row {error.row_number}: {error.message}. {error.suggestion}", code=error.code, field="file")
        for error in report.errors[:20]
    ]
    detail = f"{source.name}: none of {report.rows} rows is fit to train on; {problems[0].message}"
    return InvalidFile(detail, errors=problems, code="no_fit_rows")


@contextmanager
def local_upload(upload: UploadedFile) -> Iterator[Path]:
    """Give the path of the upload, writing it to a temporary file where it came in memory."""
    if isinstance(upload, TemporaryUploadedFile):
        upload.flush()
        yield Path(upload.temporary_file_path())
        return
    with tempfile.NamedTemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR, suffix=".upload") as copy:
        for chunk in upload.chunks():
            copy.write(chunk)
        copy.flush()
        yield Path(copy.name)


def _find_version(user: User, name: str, sha256: str) -> DatasetVersion | None:
    versions = DatasetVersion.objects.visible_to(user).filter(dataset__name=name, sha256=sha256)
    return versions.select_related("dataset").order_by("-number").first()


@transaction.atomic
def keep_version(
    user: User,
    name: str,
    source: SourceFile,
    found: Examination,
    stored: store.StoredObject,
    *,
    origin: Mapping[str, object] | None = None,
) -> ImportedVersion:
    """Keep stored content as the next version of the user's dataset ``name``, unless one of its versions holds it."""
    dataset, _ = Dataset.objects.get_or_create(owner=user, name=name)
    Dataset.objects.select_for_update().get(pk=dataset.pk)  # one upload of a name numbers its version at a time
    if existing := _find_version(user, name, stored.sha256):
        return ImportedVersion(version=existing, created=False)
    return ImportedVersion(version=add_version(dataset, source, found, stored, origin=origin), created=True)


@transaction.atomic
def keep_child(
    parent: DatasetVersion, source: SourceFile, found: Examination, stored: store.StoredObject, changes: Mapping[str, object]
) -> ImportedVersion:
    """Keep stored content as the version that ``changes`` made of ``parent``, unless one of its siblings holds it."""
    dataset = Dataset.objects.select_for_update().get(pk=parent.dataset_id)  # numbers one version at a time
    existing = dataset.versions.filter(sha256=stored.sha256).order_by("-number").first()
    if existing is not None:
        return ImportedVersion(version=existing, created=False)
    return ImportedVersion(version=add_version(dataset, source, found, stored, parent=parent, changes=changes), created=True)


def add_version(
    dataset: Dataset,
    source: SourceFile,
    found: Examination,
    stored: store.StoredObject,
    *,
    parent: DatasetVersion | None = None,
    changes: Mapping[str, object] | None = None,
    origin: Mapping[str, object] | None = None,
) -> DatasetVersion:
    """Keep stored content as the next version of ``dataset``, whose row the caller's transaction has locked."""
    newest = dataset.versions.order_by("-number").first()
    return DatasetVersion.objects.create(
        dataset=dataset,
        number=newest.number + 1 if newest else 1,
        file_name=_file_name(source, found.file_format),
        file_format=found.file_format.value,
        format=found.row_format,
        format_reason=storable_text(found.reason),
        uri=stored.uri,
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
        rows=found.rows,
        columns=storable(found.columns),
        report=storable_object(found.report),
        statistics=storable_object(found.statistics),
        parent=parent,
        changes=storable_object(changes or {}),
        origin=storable_object(origin or {}),
    )


def forget(stored: store.StoredObject) -> None:
    """Remove content that no row came to refer to."""
    if any(rows.objects.filter(uri=stored.uri).exists() for rows in (DatasetVersion, WaitingUpload, Artifact)):
        return
    store.remove_stored(stored.uri, manifest=stored.manifest, is_folder=stored.is_folder)


def readable_name(name: str | None) -> str:
    """Return a file name as its user knows it, without folders and unprintable characters."""
    printable = "".join(character for character in Path(name or "upload").name if character.isprintable())
    return printable[-200:] or "upload"


def _file_name(source: SourceFile, file_format: FileFormat) -> str:
    """Return a name whose ending says what the file is: runs read the file by it."""
    endings = _NAME_ENDINGS[file_format]
    return source.name if source.extension in endings else f"{source.name}.{endings[0]}"
