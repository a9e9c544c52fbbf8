"""Write a file anew with mapped column names, so that all who read it afterwards find its row format by themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from celery_workers.contract.errors import UserInputError
from celery_workers.data.formats import FileFormat, read_rows
from celery_workers.data.importing import open_rows
from celery_workers.data.plain import plain
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
                write_row(output, _renamed(row, names))
                line = row.number
    return detected


def write_row(output: BinaryIO, row: SourceRow) -> None:
    """Write a row as a line of JSON; one that cannot be read as the text of the reason."""
    reason = row.problem.message if row.problem else "the row cannot be read"
    content = reason if row.values is None else plain(row.values)
    output.write(json.dumps(content, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


def _renamed(row: SourceRow, names: Mapping[str, str]) -> SourceRow:
    if row.values is None:
        return row
    return SourceRow(row.number, {_new_name(column, names): value for column, value in row.values.items()}, row.problem)


def _new_name(column: str, names: Mapping[str, str]) -> str:
    if column in names:
        return names[column]
    return f"source_{column}" if column.strip().lower() in _KNOWN_NAMES else column
