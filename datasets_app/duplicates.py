"""Review near duplicates: pairs of rows side by side, a decision for each, and the decisions as a new version."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import transaction

from celery_workers.contract.errors import UserInputError
from celery_workers.contract.measures import FoundPair, FoundPairs
from celery_workers.data.canonical import to_canonical
from celery_workers.data.column_mapping import write_row
from celery_workers.data.fixes import ROW_NUMBERS_PER_CHANGE
from celery_workers.data.formats import FileFormat, read_rows
from celery_workers.data.importing import open_rows
from celery_workers.data.mapping_choice import as_messages
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.rows import SourceFile, SourceRow
from celery_workers.data.text_diff import Segment, mark
from datasets_app.measuring import find_near_duplicates
from datasets_app.models import DatasetVersion, PairDecision
from datasets_app.preview import local_file
from datasets_app.services import ImportedVersion, examine, forget, invalid_file, keep_child
from platform_site.common import store
from platform_site.common.errors import InvalidInput, Problem

logger = logging.getLogger(__name__)

SHOWN_CHARACTERS = 4000
Decision = PairDecision.Decision
Key = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ReviewedPair:
    """Two rows and what was decided about them; their texts in pieces that are the same in both or are not."""

    pair: FoundPair
    decision: str | None
    first: list[Segment]
    second: list[Segment]


@dataclass(frozen=True, kw_only=True)
class Review:
    """The pairs of a version, those of one page with their texts."""

    found: FoundPairs
    counts: dict[str, int]
    pairs: list[ReviewedPair]


def review(*, version: DatasetVersion, threshold: float, state: str, offset: int, limit: int) -> Review:
    """Return the pairs of ``version`` whose decision is ``state`` (``undecided``, one of the decisions, or ``all``).

    The first call for a threshold looks for them, which takes seconds.

    Raises: InvalidInput, InvalidFile: the file cannot be read. Unavailable. ContentMissing.
    """
    found = FoundPairs.model_validate(find_near_duplicates(version=version, threshold=threshold).result)
    decided = _decisions(version)
    counts = dict.fromkeys(["undecided", *Decision.values], 0)
    for pair in found.pairs:
        counts[_state(pair, decided)] += 1
    chosen = [pair for pair in found.pairs if state in ("all", _state(pair, decided))][offset : offset + limit]
    texts = _texts(version, {number for pair in chosen for number in (pair.first, pair.second)})
    pairs = [_reviewed(pair, decided.get((pair.first, pair.second)), texts) for pair in chosen]
    return Review(found=found, counts=counts, pairs=pairs)


@transaction.atomic
def decide(*, version: DatasetVersion, threshold: float, decisions: Mapping[Key, str | None], rest: str | None = None) -> None:
    """Note decisions on pairs, by their row numbers; None takes one back. ``rest`` is for all that have none yet.

    Raises: InvalidInput: a pair is none of those that were found.
    """
    found = FoundPairs.model_validate(find_near_duplicates(version=version, threshold=threshold).result)
    known = {(pair.first, pair.second) for pair in found.pairs}
    if unknown := sorted(decisions.keys() - known):
        message = f"rows {unknown[0][0]} and {unknown[0][1]} are no pair of version {version.number} from {threshold:.2f} on"
        raise InvalidInput(message, errors=[Problem(message=message, code="no_pair", field="decisions")], code="no_pair")
    for (first, second), decision in decisions.items():
        rows = PairDecision.objects.filter(version=version, first=first, second=second)
        if decision is None:
            rows.delete()
        else:
            PairDecision.objects.update_or_create(version=version, first=first, second=second, defaults={"decision": decision})
    if rest is not None:
        missing = sorted(known - _decisions(version).keys())
        made = [PairDecision(version=version, first=first, second=second, decision=rest) for first, second in missing]
        PairDecision.objects.bulk_create(made, ignore_conflicts=True)


def apply_decisions(*, version: DatasetVersion) -> ImportedVersion:
    """Make a version without the rows that were decided against; all others stay as they are, and in their order.

    Raises: InvalidInput: no row was decided against. InvalidFile: no row would be left. StorageFull. ContentMissing.
    """
    decided = _decisions(version)
    dropped = {first for (first, _), decision in decided.items() if decision == Decision.DROP_FIRST}
    dropped |= {second for (_, second), decision in decided.items() if decision == Decision.DROP_SECOND}
    if not dropped:
        message = f"no row of version {version.number} was decided against"
        problem = Problem(message=message, code="nothing_to_drop", field="decisions")
        raise InvalidInput(message, errors=[problem], code="nothing_to_drop")
    with tempfile.TemporaryDirectory(dir=settings.FILE_UPLOAD_TEMP_DIR) as folder:
        target = Path(folder) / "reviewed.jsonl"
        _write_without(version, dropped, target)
        source = SourceFile(path=target, name=f"{version.file_name.partition('.')[0] or 'rows'}.jsonl")
        found = examine(source, FileFormat.JSONL)
        stored = store.store_path(target)
        try:
            made = keep_child(version, source, found, stored, _account(version, dropped, found.rows))
        except BaseException:
            forget(stored)
            raise
    logger.info("datasets.reviewed", extra={"version_id": str(made.version.pk), "dropped_rows": len(dropped)})
    return made


def _account(version: DatasetVersion, dropped: Collection[int], rows_after: int) -> dict[str, object]:
    """Return the ``changes`` of the new version, in the shape of those that fixes make."""
    numbers = sorted(dropped)[:ROW_NUMBERS_PER_CHANGE]
    drop = {"code": "near_duplicate", "action": "drop", "rows": len(dropped), "row_numbers": numbers}
    return {"rows_before": version.rows, "rows_after": rows_after, "fixes": [drop]}


def _decisions(version: DatasetVersion) -> dict[Key, str]:
    rows = version.pair_decisions.values_list("first", "second", "decision")
    return {(first, second): decision for first, second, decision in rows}


def _state(pair: FoundPair, decided: Mapping[Key, str]) -> str:
    return decided.get((pair.first, pair.second), "undecided")


def _reviewed(pair: FoundPair, decision: str | None, texts: Mapping[int, str]) -> ReviewedPair:
    first, second = mark(texts.get(pair.first, ""), texts.get(pair.second, ""))
    return ReviewedPair(pair=pair, decision=decision, first=first, second=second)


def _texts(version: DatasetVersion, numbers: Collection[int]) -> dict[int, str]:
    """Return what the rows of these numbers say, to read."""
    found: dict[int, str] = {}
    if not numbers:
        return found
    with _rows(version) as (source, rows):
        detected = open_rows(source, file_format=FileFormat(version.file_format), row_format=RowFormat(version.format)).detected
        for row in rows:
            if row.number in numbers:
                found[row.number] = _spoken(as_messages(to_canonical(row, detected).values, detected.format))
                if len(found) == len(numbers):
                    break
    return found


def _spoken(messages: Sequence[Mapping[str, object]]) -> str:
    said = "\n".join(f"{message['role']}: {_plain_text(message.get('content'))}" for message in messages)
    return f"{said[:SHOWN_CHARACTERS]}…" if len(said) > SHOWN_CHARACTERS else said


def _plain_text(content: object) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)


def _write_without(version: DatasetVersion, dropped: Collection[int], target: Path) -> None:
    with _rows(version) as (_, rows), target.open("wb") as output:
        for row in rows:
            if row.number not in dropped:
                write_row(output, row)


@contextmanager
def _rows(version: DatasetVersion) -> Iterator[tuple[SourceFile, Iterator[SourceRow]]]:
    """Give the rows of a version's file.

    Raises: InvalidFile: it cannot be read any more.
    """
    with local_file(version) as path:
        source = SourceFile(path=path, name=version.file_name)
        batches = read_rows(source, FileFormat(version.file_format))
        try:
            yield source, (row for batch in batches for row in batch.rows)
        except UserInputError as error:
            raise invalid_file(error) from error
