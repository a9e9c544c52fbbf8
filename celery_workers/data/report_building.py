"""Check rows batch by batch, and gather the problems of all of them into one bounded report."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from celery_workers.data.canonical import CanonicalRow, texts
from celery_workers.data.checks import (
    CONTROL_CHARACTERS,
    DEFAULT_MAX_CHARACTERS,
    check_row_texts,
    is_fit,
)
from celery_workers.data.findings import find_imbalance, find_in_whole
from celery_workers.data.personal_problems import personal_problems, without_personal_data
from celery_workers.data.row_formats import Detected
from celery_workers.data.rows import CODES, RowProblem, Severity
from celery_workers.data.screening import needs_a_look
from celery_workers.data.statistics import LENGTH_EDGES, Gathered
from celery_workers.data.validation_report import CodeCount, ValidationReport

PROBLEMS_PER_CODE = 100
ROW_NUMBERS_PER_CODE = 1000
SAMPLES_PER_CODE = 3
SAMPLE_CHARACTERS = 200
LANGUAGE_CHARACTERS = 500


class ReportBuilder:
    """Check rows; ``build`` says what was found. Memory is that of ``statistics`` beside the bounded samples."""

    def __init__(
        self, detected: Detected, *, max_characters: int = DEFAULT_MAX_CHARACTERS, with_personal_data: bool = True
    ) -> None:
        self._detected = detected
        self._max_characters = max_characters
        self._with_personal_data = with_personal_data
        self._gathered = Gathered(detected)
        self._problems: dict[str, list[RowProblem]] = {}
        self._row_numbers: dict[str, list[int]] = {}
        self._samples: dict[str, list[dict[str, object]]] = {}
        self._rows_by_code: Counter[str] = Counter()
        self._problems_total = 0
        self._lengths = [0] * len(LENGTH_EDGES)
        self._with_warnings = 0
        self._fit_rows = 0
        self._characters = 0
        self.rows = 0

    def add(self, row: CanonicalRow) -> list[RowProblem]:
        """Check one row and return its problems; ``add_batch`` is many times as fast."""
        return self.add_batch([row])[0]

    def add_batch(self, rows: Sequence[CanonicalRow]) -> list[list[RowProblem]]:
        """Check ``rows`` and return the problems of each."""
        fields = [list(texts(row.values, self._detected.format)) for row in rows]
        flat = [text for pairs in fields for _, text in pairs]
        flags = needs_a_look(flat, with_personal_data=self._with_personal_data)
        found, start = [], 0
        for row, pairs in zip(rows, fields, strict=True):
            end = start + len(pairs)
            suspects = [pair for pair, flag in zip(pairs, flags[start:end], strict=True) if flag]
            found.append(self._add(row, pairs, suspects))
            start = end
        return found

    def build(self) -> ValidationReport:
        """Return the report. Call once, after the last row."""
        for problem in find_in_whole(self._gathered):
            self._record([problem], {})
        if imbalance := find_imbalance(self._gathered):
            self._record([imbalance[0]], {})
            self._rows_by_code["label_imbalance"] = imbalance[1]
        kept = [problem for problems in self._problems.values() for problem in problems]
        bins = 1 + max((index for index, rows in enumerate(self._lengths) if rows), default=0)
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
            lengths=self._lengths[:bins],
            length_percentiles=self._gathered.percentiles(),
            languages=self._gathered.languages(),
            splits=self._gathered.splits,
            labels=[(without_personal_data(label), rows) for label, rows in labels.most_common()],
            samples=[sample for samples in self._samples.values() for sample in samples],
        )

    def _add(
        self, row: CanonicalRow, pairs: Sequence[tuple[str, str]], suspects: Sequence[tuple[str, str]]
    ) -> list[RowProblem]:
        characters = sum([len(text) for _, text in pairs])
        problems = check_row_texts(
            row, self._detected.shape, suspects, characters=characters, max_characters=self._max_characters
        )
        if suspects and self._with_personal_data:
            problems = [*problems, *personal_problems(row.number, suspects)]
        self.rows += 1
        self._characters += characters
        self._lengths[bisect_right(LENGTH_EDGES, characters) - 1] += 1
        if is_fit(problems):
            self._fit_rows += 1
            beginning = pairs[-1][1][:LANGUAGE_CHARACTERS] if pairs else ""
            self._gathered.add(row, characters=characters, beginning=beginning)
        if problems:
            self._record(problems, dict(pairs))
            self._with_warnings += any(problem.severity is Severity.WARNING for problem in problems)
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


def _without_personal_data(problem: RowProblem) -> RowProblem:
    """Return ``problem`` without values that it quotes from the row."""
    return replace(problem, message=without_personal_data(problem.message), fix=without_personal_data(problem.fix))


def _excerpt(text: str) -> str:
    """Return the beginning of a text, personal data masked before it is cut and invisible characters spelled out."""
    masked = without_personal_data(text)
    shown = CONTROL_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", masked[:SAMPLE_CHARACTERS].replace("\0", "\\u0000"))
    return f"{shown}…" if len(masked) > SAMPLE_CHARACTERS else shown
