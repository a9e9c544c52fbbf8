"""Check rows block by block, and gather the problems of all of them into one bounded report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from celery_workers.data.blocks import Block, block_of
from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.checks import (
    CONTROL_CHARACTERS,
    DEFAULT_MAX_CHARACTERS,
    check_row_texts,
    is_fit,
)
from celery_workers.data.findings import Finding, find_imbalance, find_in_whole
from celery_workers.data.personal_problems import personal_problems, without_personal_data
from celery_workers.data.row_formats import Detected
from celery_workers.data.rows import CODES, RowProblem, Severity
from celery_workers.data.statistics import LENGTH_EDGES, Gathered
from celery_workers.data.validation_report import CodeCount, ValidationReport

PROBLEMS_PER_CODE = 100
ROW_NUMBERS_PER_CODE = 1000
SAMPLES_PER_CODE = 3
SAMPLE_CHARACTERS = 200


class ReportBuilder:
    """Check rows; ``build`` says what was found. Memory is that of ``statistics`` beside the bounded samples."""

    def __init__(
        self, detected: Detected, *, max_characters: int = DEFAULT_MAX_CHARACTERS, with_personal_data: bool = True
    ) -> None:
        import numpy as np

        from celery_workers.data.block_checks import Looker

        self._detected = detected
        self._looker = Looker(detected.shape, with_personal_data=with_personal_data, max_characters=max_characters)
        self._max_characters = max_characters
        self._with_personal_data = with_personal_data
        self._gathered = Gathered(detected)
        self._problems: dict[str, list[RowProblem]] = {}
        self._row_numbers: dict[str, list[int]] = {}
        self._samples: dict[str, list[dict[str, object]]] = {}
        self._rows_by_code: Counter[str] = Counter()
        self._problems_total = 0
        self._lengths = np.zeros(len(LENGTH_EDGES), np.int64)
        self._with_warnings = 0
        self._fit_rows = 0
        self._characters = 0
        self.rows = 0

    def add(self, row: CanonicalRow) -> list[RowProblem]:
        """Check one row and return its problems; ``add_block`` is many times as fast."""
        return self.add_batch([row]).get(0, [])

    def add_batch(self, rows: Sequence[CanonicalRow]) -> dict[int, list[RowProblem]]:
        """Check ``rows`` and return the problems of each that has any, by its place."""
        return self.add_block(block_of(rows, self._detected.shape)) if rows else {}

    def add_block(self, block: Block) -> dict[int, list[RowProblem]]:
        """Check the rows of ``block`` and return the problems of each that has any, by its position."""
        import numpy as np

        look = self._looker.look(block)
        self.rows += len(block)
        self._characters += int(look.characters.sum())
        bins = np.searchsorted(LENGTH_EDGES, look.characters, side="right") - 1
        self._lengths += np.bincount(bins, minlength=len(LENGTH_EDGES))
        found = {}
        for position in np.flatnonzero(look.suspects).tolist():
            row = block.row(position)
            pairs, suspects = look.texts(position, row.values)
            if problems := self._check(row, suspects, characters=int(look.characters[position])):
                found[position] = problems
                self._record(problems, dict(pairs))
                self._with_warnings += any(problem.severity is Severity.WARNING for problem in problems)
        unfit = [position for position, problems in found.items() if not is_fit(problems)]
        self._fit_rows += len(block) - len(unfit)
        self._gathered.add(look.facts(unfit))
        return found

    def build(self) -> ValidationReport:
        """Return the report. Call once, after the last row."""
        for finding in find_in_whole(self._gathered, limit=max(ROW_NUMBERS_PER_CODE, PROBLEMS_PER_CODE)):
            self._record_finding(finding)
        if imbalance := find_imbalance(self._gathered):
            self._record([imbalance[0]], {})
            self._rows_by_code["label_imbalance"] = imbalance[1]
        kept = [problem for problems in self._problems.values() for problem in problems]
        lengths = self._lengths.tolist()
        bins = 1 + max((index for index, rows in enumerate(lengths) if rows), default=0)
        labels = self._gathered.label_set() or Counter()
        return ValidationReport(
            detected=self._detected,
            rows=self.rows,
            fit_rows=self._fit_rows,
            rows_with_warnings=self._with_warnings,
            characters=self._characters,
            counts=[
                CodeCount(code=code, rows=self._rows_by_code[code], row_numbers=self._row_numbers[code])
                for code in CODES
                if self._rows_by_code[code]
            ],
            problems=sorted(kept, key=lambda problem: problem.row_number),
            problems_total=self._problems_total,
            length_edges=list(LENGTH_EDGES[:bins]),
            lengths=lengths[:bins],
            length_percentiles=self._gathered.percentiles(),
            languages=self._gathered.languages(),
            splits=self._gathered.splits,
            labels=[(without_personal_data(label), rows) for label, rows in labels.most_common()],
            samples=[sample for samples in self._samples.values() for sample in samples],
        )

    def _check(self, row: CanonicalRow, suspects: Sequence[tuple[str, str]], *, characters: int) -> list[RowProblem]:
        problems = check_row_texts(
            row, self._detected.shape, suspects, characters=characters, max_characters=self._max_characters
        )
        if suspects and self._with_personal_data:
            problems = [*problems, *personal_problems(row.number, suspects)]
        return problems

    def _record(self, problems: Sequence[RowProblem], fields: Mapping[str, str]) -> None:
        """Count the problems of one row, and keep the first of each code."""
        for code in {problem.code: None for problem in problems}:
            self._rows_by_code[code] += 1
            numbers = self._row_numbers.setdefault(code, [])
            if len(numbers) < ROW_NUMBERS_PER_CODE:
                numbers.append(problems[0].row_number)
        for problem in problems:
            self._problems_total += 1
            kept = self._problems.setdefault(problem.code, [])
            if len(kept) < PROBLEMS_PER_CODE:
                kept.append(_without_personal_data(problem))
            samples = self._samples.setdefault(problem.code, [])
            if len(samples) < SAMPLES_PER_CODE and (text := fields.get(problem.field)):
                sample = {"code": problem.code, "row": problem.row_number, "field": problem.field, "text": _excerpt(text)}
                samples.append(sample)

    def _record_finding(self, finding: Finding) -> None:
        """Do as ``_record`` for a code that was found in many rows at once."""
        if not finding.rows:
            return
        self._rows_by_code[finding.code] += finding.rows
        self._problems_total += finding.rows
        numbers = [problem.row_number for problem in finding.first[:ROW_NUMBERS_PER_CODE]]
        self._row_numbers[finding.code] = numbers
        self._problems[finding.code] = [_without_personal_data(problem) for problem in finding.first[:PROBLEMS_PER_CODE]]


def _without_personal_data(problem: RowProblem) -> RowProblem:
    """Return ``problem`` without values that it quotes from the row."""
    return replace(problem, message=without_personal_data(problem.message), fix=without_personal_data(problem.fix))


def _excerpt(text: str) -> str:
    """Return the beginning of a text, personal data masked before it is cut and invisible characters spelled out."""
    masked = without_personal_data(text)
    shown = CONTROL_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", masked[:SAMPLE_CHARACTERS].replace("\0", "\\u0000"))
    return f"{shown}…" if len(masked) > SAMPLE_CHARACTERS else shown
