"""Apply the fixes that a report suggests, as a new version: a version never changes."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from celery_workers.contract.errors import UserInputError
from celery_workers.data.fixes import ACTIONS, SUGGESTED, Fixed, write_fixed
from celery_workers.data.formats import FileFormat
from celery_workers.data.rows import CODES, SourceFile
from datasets_app.models import DatasetVersion
from datasets_app.preview import local_file
from datasets_app.services import ImportedVersion, examine, forget, keep_child
from platform_site.common import store
from platform_site.common.errors import InvalidFile, InvalidInput, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A fix that a version's report suggests, and how many rows it would touch."""

    code: str
    action: str
    rows: int
    meaning: str
    is_suggested: bool


def propose_fixes(version: DatasetVersion) -> list[Proposal]:
    """Return the fixes of what the version's report counts, in the order of the codes."""
    data = version.report.get("data", {})
    rows: Mapping[str, int] = {count["code"]: count["rows"] for count in data.get("counts", [])}
    return [
        Proposal(
            code=code, action=ACTIONS[code].value, rows=rows[code], meaning=known.meaning, is_suggested=code in SUGGESTED
        )
        for code, known in CODES.items()
        if code in rows and code in ACTIONS
    ]  # fmt: skip


def apply_fixes(*, version: DatasetVersion, codes: Collection[str] | None = None) -> ImportedVersion:
    """Make a version of the same dataset whose rows are ``version``'s, fixed by ``codes``; all that are suggested if None.

    Every change is counted in its ``changes``. Where a version with that content exists already, it is the answer. After an
    error there is neither a row nor a stored file.

    Raises: InvalidInput: a code has no fix, or nothing is to be fixed. InvalidFile: no row would be left. StorageFull.
    ContentMissing: the version's file is gone from the store. Unavailable.
    """
    chosen = _chosen(version, codes)
    with tempfile.TemporaryDirectory(dir=settings.FILE_UPLOAD_TEMP_DIR) as folder, local_file(version) as path:
        target = Path(folder) / "fixed.jsonl"
        fixed = _write(version, path, target, chosen)
        source = SourceFile(path=target, name=f"{version.file_name.partition('.')[0] or 'rows'}.jsonl")
        found = examine(source, FileFormat.JSONL)
        stored = store.store_path(target)
        try:
            made = keep_child(version, source, found, stored, _account(fixed, chosen))
        except BaseException:
            forget(stored)
            raise
    logger.info("datasets.fixed", extra={"version_id": str(made.version.pk), "codes": sorted(chosen)})
    return made


def _chosen(version: DatasetVersion, codes: Collection[str] | None) -> set[str]:
    suggested = {proposal.code for proposal in propose_fixes(version) if proposal.is_suggested}
    chosen = suggested if codes is None else set(codes)
    if unknown := sorted(chosen - ACTIONS.keys()):
        message = f"codes must be among {', '.join(ACTIONS)}, got {', '.join(unknown)}"
        raise InvalidInput(message, errors=[Problem(message=message, code="no_fix", field="codes")], code="no_fix")
    if not chosen:
        raise _nothing_to_fix(version)
    return chosen


def _write(version: DatasetVersion, path: Path, target: Path, codes: Collection[str]) -> Fixed:
    source = SourceFile(path=path, name=version.file_name)
    try:
        fixed = write_fixed(source, target, codes=codes, file_format=FileFormat(version.file_format), row_format=version.format)
    except UserInputError as error:
        raise InvalidFile(error.message, errors=[Problem(message=error.message, code=error.code)], code=error.code) from error
    if not fixed.changes:
        raise _nothing_to_fix(version)
    if not fixed.rows_after:
        raise InvalidFile(f"the fixes would leave none of {fixed.rows_before} rows", code="no_fit_rows")
    return fixed


def _nothing_to_fix(version: DatasetVersion) -> InvalidInput:
    message = f"version {version.number} has nothing that these fixes would change"
    return InvalidInput(message, errors=[Problem(message=message, code="nothing_to_fix", field="codes")], code="nothing_to_fix")


def _account(fixed: Fixed, codes: Collection[str]) -> dict[str, object]:
    """Return the ``changes`` of the new version."""
    return {
        "codes": [code for code in CODES if code in codes],
        "rows_before": fixed.rows_before,
        "rows_after": fixed.rows_after,
        "fixes": [change.as_json() for change in fixed.changes],
    }
