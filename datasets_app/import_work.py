"""What a worker does for an import: bring the files, join them, check every row, and keep the result as a version.

The database is the truth, as for runs: an import is claimed under a lease, every write carries the attempt's number, and one
whose worker dies is taken up by another. The version appears in the transaction that ends the import, or not at all.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from celery_workers.contract.errors import AgentError, ErrorKind, UserInputError
from celery_workers.data.formats import FileFormat
from celery_workers.data.joining import join_files
from celery_workers.data.rows import SourceFile
from datasets_app import hub
from datasets_app.models import DatasetImport, DatasetVersion, WaitingUpload
from datasets_app.services import import_file, readable_name
from datasets_app.uploads import MAPPABLE, keep_waiting
from pipelines.engine.database import OUTAGES, give_back_connection, with_outages_survived
from pipelines.engine.jsonb import storable_object, storable_text
from pipelines.references import Resolution, UnresolvedReference, materialize, resolve
from pipelines.references.find import ReferenceKind
from platform_site.common.errors import DomainError, InvalidFile, InvalidInput, TooLarge
from platform_site.common.store import remove_tree

logger = logging.getLogger(__name__)

LONGEST_RETRY_SECONDS = 300.0
FINAL = (InvalidFile, InvalidInput, TooLarge, UnresolvedReference)
"""Errors that another try cannot mend."""


class ImportStopped(Exception):
    """This attempt should do no more."""


def import_next(*, is_stopping: Callable[[], bool] = lambda: False) -> bool:
    """Take the import that has waited longest, and see it through; False if none is due.

    Raises: OperationalError: the database stayed away; the lease runs out, and the import is taken up again.
    """
    lease = timedelta(seconds=settings.ENV.lease_seconds)
    taken = DatasetImport.objects.claim(lease=lease)
    if taken is None:
        return False
    logger.info("import.started %s attempt %s", taken.pk, taken.attempt)
    with _Keeper(taken, lease=lease) as keeper:
        _Attempt(taken, keeper=keeper, is_stopping=is_stopping).run()
    return True


def sweep_folders() -> None:
    """Remove this machine's folders of imports that have ended or are gone."""
    root = _root()
    folders = {folder.name: folder for folder in root.iterdir()} if root.is_dir() else {}
    if not folders:
        return
    wanted = {str(pk) for pk in DatasetImport.objects.exclude(status__in=("succeeded", "failed")).values_list("pk", flat=True)}
    for name, folder in folders.items():
        if name not in wanted:
            remove_tree(folder)


class _Keeper(threading.Thread):
    """Renews the lease from a thread of its own, and writes how many bytes have come."""

    def __init__(self, held: DatasetImport, *, lease: timedelta) -> None:
        super().__init__(name=f"import-{held.pk}", daemon=True)
        self.done_bytes = 0
        self.is_lost = False
        self._held = held
        self._lease = lease
        self._ended = threading.Event()

    def __enter__(self) -> _Keeper:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Look every second, or more often where leases are short; until the end, or until the lease is lost."""
        try:
            while not self._ended.wait(min(1.0, self._lease.total_seconds() / 4)) and not self.is_lost:
                try:
                    held = DatasetImport.objects.fenced(self._held)
                    self.is_lost = not held.update(lease_expires_at=Now() + self._lease, done_bytes=self.done_bytes)
                except OUTAGES as error:
                    logger.warning("import.lease_not_renewed %s: %s", self._held.pk, error)
                    connection.close()
                give_back_connection()
        finally:
            connection.close()


class _Attempt:
    def __init__(self, held: DatasetImport, *, keeper: _Keeper, is_stopping: Callable[[], bool]) -> None:
        self._held = held
        self._keeper = keeper
        self._is_stopping = is_stopping
        self._folder = _root() / str(held.pk)

    def run(self) -> None:
        """Bring, check and keep; whatever goes wrong is written down."""
        try:
            if self._held.tries >= settings.ENV.max_attempts:
                raise UserInputError(f"{self._held.tries} workers ended while they brought it", code="worker_lost")
            self._folder.mkdir(parents=True, exist_ok=True)
            self._import()
        except ImportStopped:
            self._write(status=DatasetImport.Status.PENDING)
            return
        except (AgentError, DomainError) as error:
            is_ended = self._fail(error)
        except OUTAGES:
            raise
        except Exception as error:
            logger.exception("import.broke %s", self._held.pk)
            self._end_failed("bug", f"the import broke ({type(error).__name__}); the server's log tells more")
            is_ended = True
        else:
            is_ended = True
        if is_ended:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _import(self) -> None:
        source, file_format = self._bring()
        self._check()
        given = FileFormat(self._held.file_format) if self._held.file_format else file_format
        try:
            import_file(
                user=self._held.owner, source=source, name=self._held.name, file_format=given, mapping=self._held.columns,
                origin=self._held.origin, settle=self._settle,
            )  # fmt: skip
        except InvalidFile as error:
            if error.error_code not in MAPPABLE:
                raise
            waiting = keep_waiting(user=self._held.owner, source=source, name=self._held.name, file_format=given, error=error)
            self._end_failed(error.error_code, error.detail, waiting=waiting)

    def _bring(self) -> tuple[SourceFile, FileFormat | None]:
        """Return the one local file to import; its format where it is known."""
        if self._held.source["type"] == "s3":
            return self._bring_object(str(self._held.source["address"])), None
        asked = hub.source_of(self._held.source)
        if not self._held.origin:
            self._pin(hub.as_origin(hub.pin(asked), asked))
        pinned = hub.pinned_of(self._held.origin)
        brought = hub.download(pinned, self._folder / "files", on_bytes=self._count)
        self._held.origin = {**self._held.origin, "files": [lineage for _, lineage in brought]}
        sources = [SourceFile(path=path, name=readable_name(path.name)) for path, _ in brought]
        if len(sources) == 1:
            return sources[0], None
        name = readable_name("-".join(part for part in (pinned.choice.subset, pinned.choice.split) if part) or "rows")
        joined = self._folder / "joined"
        try:
            file_format = join_files(sources, joined, after_each=self._check)
        except UserInputError as error:
            raise InvalidFile(error.message, code=error.code) from error
        return SourceFile(path=joined, name=f"{name}.{file_format.value}"), file_format

    def _bring_object(self, address: str) -> SourceFile:
        if self._held.origin:
            resolution = Resolution.from_json(self._held.origin["resolution"])
        else:
            resolution = resolve(address, ReferenceKind.DATA, user=self._held.owner)
            self._pin({"type": "s3", "address": address, "resolution": resolution.as_json()})
        _check_size(address, int(str(resolution.source.get("size_bytes", 0))))
        path = materialize(address, resolution, folder=self._folder / "files")
        size_bytes = path.stat().st_size
        _check_size(address, size_bytes)
        self._count(size_bytes)
        self._held.origin = {"type": "s3", "address": address, "digest": resolution.digest}
        DatasetImport.objects.fenced(self._held).update(total_bytes=size_bytes)
        return SourceFile(path=path, name=readable_name(path.name))

    def _pin(self, origin: dict[str, object]) -> None:
        self._held.origin = storable_object(origin)
        files = origin.get("files")
        total = sum(int(file["size_bytes"]) for file in files) if isinstance(files, list) else None
        if not DatasetImport.objects.fenced(self._held).update(origin=self._held.origin, total_bytes=total):
            raise ImportStopped

    def _count(self, more: int) -> None:
        self._check()
        self._keeper.done_bytes += more

    def _check(self) -> None:
        if self._keeper.is_lost or self._is_stopping():
            raise ImportStopped

    def _settle(self, version: DatasetVersion) -> None:
        """End the import in the transaction that makes its version; undo both where the import is another attempt's."""
        self._check()
        changed = DatasetImport.objects.fenced(self._held).update(
            status=DatasetImport.Status.SUCCEEDED, version=version, origin=storable_object(self._held.origin),
            done_bytes=self._keeper.done_bytes, finished_at=Now(), code="", reason="",
        )  # fmt: skip
        if not changed:
            raise ImportStopped

    def _fail(self, error: AgentError | DomainError) -> bool:
        """Write the failure down: for good, or with the instant of the next try. Return whether it is for good."""
        text, code = (error.message, error.code) if isinstance(error, AgentError) else (error.detail, error.error_code)
        is_final = isinstance(error, FINAL) or (isinstance(error, AgentError) and error.kind is ErrorKind.USER)
        if is_final or self._held.attempt >= settings.ENV.max_attempts:
            self._end_failed(code, text)
            return True
        delay = min(settings.ENV.retry_base_seconds * 2 ** (self._held.attempt - 1), LONGEST_RETRY_SECONDS)
        logger.warning("import.tries_again %s in %.0f s: %s", self._held.pk, delay, text)
        self._write(
            status=DatasetImport.Status.PENDING,
            not_before=Now() + timedelta(seconds=delay),
            code=code,
            reason=storable_text(text),
        )
        return False

    def _end_failed(self, code: str, text: str, *, waiting: WaitingUpload | None = None) -> None:
        self._write(
            status=DatasetImport.Status.FAILED, code=code, reason=storable_text(text), waiting_upload=waiting, finished_at=Now()
        )

    def _write(self, **changes: object) -> None:
        write = partial(DatasetImport.objects.fenced(self._held).update, **changes)
        with_outages_survived(write, is_pointless=lambda: self._keeper.is_lost)


def _check_size(address: str, size_bytes: int) -> None:
    limit = settings.ENV.max_import_bytes
    if size_bytes > limit:
        raise TooLarge(f"an import may have at most {limit} bytes (MAX_IMPORT_BYTES), {address} has {size_bytes}")


def _root() -> Path:
    return Path(settings.VAR_DIR) / "imports"
