"""Write a file anew with mapped column names, so that all who read it afterwards find its row format by themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from celery_workers.contract.errors import UserInputError
from celery_workers.data.formats import FileFormat, read_rows
from celery_workers.data.importing import open_rows
from celery_workers.data.row_formats import Detected
from celery_workers.data.rows import SourceFile, SourceRow
from celery_workers.data.spellings import ALIASES

_KNOWN_NAMES = frozenset(name for names in ALIASES.values() for name in names)


def write_mapped(
    source: SourceFile, target: Path, *, mapping: Mapping[str, str], file_format: FileFormat | None = None
) -> Detected:
    """Write the rows of ``source`` to ``target`` as JSON Lines; return what they are.

    Row numbers stay: a row stands on the line of its number. A row that cannot be read stays one, its line says why.
    Columns beyond the format are kept; where their names could be taken for parts of a row, ``source_`` goes before.

    Raises: UserInputError: the file cannot be read, the mapping names what is not there, or still no row format fits.
    """
    opened = open_rows(source, file_format=file_format, mapping=mapping)
    detected = opened.detected
    if unused := sorted(mapping.keys() - detected.sources.keys()):
        message = f"columns maps {', '.join(unused)}, which rows of {detected.format.value} do not have"
        raise UserInputError(message, code="unused_mapping", field="columns")
    names = {column: part for part, column in detected.parts.items()}
    line = 0
    with target.open("wb") as output:
        for batch in read_rows(source, opened.file_format):
            for row in batch.rows:
                output.write(b"\n" * (row.number - line - 1))
                _write(output, row, names)
                line = row.number
    return detected


def _write(output: BinaryIO, row: SourceRow, names: Mapping[str, str]) -> None:
    content: object
    if row.values is None:
        content = row.problem.message if row.problem else "the row cannot be read"
    else:
        content = {_new_name(column, names): value for column, value in row.values.items()}
    output.write(json.dumps(content, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n")


def _new_name(column: str, names: Mapping[str, str]) -> str:
    if column in names:
        return names[column]
    return f"source_{column}" if column.strip().lower() in _KNOWN_NAMES else column
