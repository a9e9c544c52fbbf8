"""Compare two versions of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from celery_workers.contract.errors import UserInputError
from celery_workers.data.diff import RowsDiff, Side, diff_rows
from celery_workers.data.formats import FileFormat
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.rows import SourceFile
from datasets_app.models import DatasetVersion
from datasets_app.preview import local_file
from platform_site.common.errors import InvalidFile


@dataclass(frozen=True, kw_only=True)
class VersionsDiff:
    """What differs: of the columns, ``{"name", "before", "after"}`` with types or None; of the format; and of the rows."""

    columns: list[dict[str, str | None]]
    formats: list[dict[str, str]]
    rows: RowsDiff


def diff_versions(before: DatasetVersion, after: DatasetVersion, *, samples: int = 20) -> VersionsDiff:
    """Compare two versions, with the first ``samples`` rows of each kind of difference.

    Raises: InvalidFile: a stored file cannot be read. ContentMissing. Unavailable.
    """
    with ExitStack() as stack:
        sides = [_side(stack, version) for version in (before, after)]
        try:
            rows = diff_rows(*sides, samples=samples)
        except UserInputError as error:
            raise InvalidFile(error.message, code=error.code) from error
    formats = [
        {"name": name, "before": getattr(before, name), "after": getattr(after, name)} for name in ("format", "file_format")
    ]
    changed = [item for item in formats if item["before"] != item["after"]]
    return VersionsDiff(columns=_columns(before.columns, after.columns), formats=changed, rows=rows)


def _side(stack: ExitStack, version: DatasetVersion) -> Side:
    path = stack.enter_context(local_file(version))
    return Side(
        source=SourceFile(path=path, name=version.file_name),
        file_format=FileFormat(version.file_format),
        row_format=RowFormat(version.format),
    )


def _columns(before: Sequence[dict[str, str]], after: Sequence[dict[str, str]]) -> list[dict[str, str | None]]:
    old, new = ({column["name"]: column["type"] for column in columns} for columns in (before, after))
    names = {**old, **new}
    return [{"name": name, "before": old.get(name), "after": new.get(name)} for name in names if old.get(name) != new.get(name)]
