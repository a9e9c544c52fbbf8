"""The columns of an examples file, and what its rows can teach."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import pyarrow as pa

from celery_workers.contract.errors import BugError

_COLUMNS = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32())), ("row_number", pa.int64())])
_LABEL = pa.field("label", pa.bool_())
_KIND = b"kind"


class ExamplesKind(StrEnum):
    """What the rows of an examples file can teach."""

    SUPERVISED = "supervised"
    PREFERENCE = "preference"
    KTO = "kto"


def schema_of(kind: ExamplesKind) -> pa.Schema:
    """Return the columns of a file of ``kind``; one without a kind in its metadata is supervised."""
    if kind is ExamplesKind.SUPERVISED:
        return _COLUMNS
    schema = _COLUMNS.append(_LABEL) if kind is ExamplesKind.KTO else _COLUMNS
    return schema.with_metadata({_KIND: kind.value.encode()})


def kind_of(schema: pa.Schema, path: Path) -> ExamplesKind:
    """Return the kind of the file at ``path`` with that schema.

    Raises: BugError: its kind is unknown, or its columns are others.
    """
    said = (schema.metadata or {}).get(_KIND, ExamplesKind.SUPERVISED.value.encode()).decode(errors="replace")
    if said not in set(ExamplesKind):
        raise BugError(f"{path.name} must be of a kind among {', '.join(ExamplesKind)}, got {said!r}")
    kind = ExamplesKind(said)
    if not schema.equals(schema_of(kind)):
        raise BugError(f"{path.name} must have columns {schema_of(kind).names}, got {schema.names}")
    return kind
