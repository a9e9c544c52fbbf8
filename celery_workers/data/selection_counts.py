"""What became of the rows in the first pass of preprocessing, for its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from celery_workers.data.decontamination import Contaminated, Match
from celery_workers.data.near_dedup import NearDuplicates

SAMPLE_ROWS = 20
_SAMPLE_PAIRS = 200


@dataclass(kw_only=True)
class SelectionCounts:
    """Rows in, rows dropped by reason with the first row numbers, rows kept.

    ``leaked_rows`` are those near duplicates that repeat a row named as held out; ``moved_rows`` are rows that were named for
    training and are held out because the same is named so elsewhere; ``leaked_contents`` counts contents that
    stand on both sides after all is done, which must be none.
    """

    rows: int = 0
    emptied: list[int] = field(default_factory=list)
    duplicates: list[tuple[int, int]] = field(default_factory=list)
    other_language: list[int] = field(default_factory=list)
    near_pairs: list[dict[str, object]] = field(default_factory=list)
    contaminated_pairs: list[dict[str, object]] = field(default_factory=list)
    emptied_rows: int = 0
    duplicate_rows: int = 0
    other_language_rows: int = 0
    near_duplicate_rows: int = 0
    grouped_rows: int = 0
    contaminated_rows: int = 0
    leaked_rows: int = 0
    moved_rows: int = 0
    leaked_contents: int = 0
    compared_rows: int = 0
    capped_rows: int = 0
    evaluation_rows: int = 0
    evaluation_match: Match = "question"
    near_duplicates: NearDuplicates = "off"
    cleaned_rows: Mapping[str, int] = field(default_factory=Counter)
    masked: Mapping[str, int] = field(default_factory=Counter)
    languages: Mapping[str, int] | None = None
    cleaning_samples: Mapping[str, list[dict[str, object]]] = field(default_factory=dict)

    @property
    def near_dropped_rows(self) -> int:
        """Near duplicates that are left out."""
        return self.near_duplicate_rows if self.near_duplicates == "drop" else 0

    @property
    def kept_rows(self) -> int:
        """Rows that go on."""
        dropped = self.emptied_rows + self.other_language_rows + self.duplicate_rows
        return self.rows - dropped - self.contaminated_rows - self.near_dropped_rows

    def note_emptied(self, row_number: int) -> None:
        """Count a row that cleaning left without a question or an answer."""
        self.emptied_rows += 1
        if len(self.emptied) < SAMPLE_ROWS:
            self.emptied.append(row_number)

    def note_duplicate(self, row_number: int, first: int) -> None:
        """Count a row that repeats the row ``first``."""
        self.duplicate_rows += 1
        if len(self.duplicates) < SAMPLE_ROWS:
            self.duplicates.append((row_number, first))

    def note_other_language(self, row_number: int) -> None:
        """Count a row in a language that is not wanted."""
        self.other_language_rows += 1
        if len(self.other_language) < SAMPLE_ROWS:
            self.other_language.append(row_number)

    def note_contaminated(self, row_number: int, found: Contaminated) -> None:
        """Count a row that repeats one of an evaluation set, or its question."""
        self.contaminated_rows += 1
        if len(self.contaminated_pairs) < _SAMPLE_PAIRS:
            self.contaminated_pairs.append(
                {
                    "row": row_number,
                    "evaluation_set": found.same_as.evaluation_set,
                    "evaluation_row": found.same_as.row_number,
                    "similarity": found.similarity,
                    "text": found.text,
                    "other_text": found.other_text,
                }
            )

    def note_pair(
        self, row_number: int, same_as: int, *, similarity: float, is_leak: bool, texts: Callable[[], tuple[str, str]]
    ) -> None:
        """Count a row that nearly repeats another row; ``texts`` gives how both begin."""
        self.near_duplicate_rows += 1
        self.leaked_rows += is_leak
        if len(self.near_pairs) < _SAMPLE_PAIRS:
            text, other_text = texts()
            pair = {"row": row_number, "same_as": same_as, "is_leak": is_leak, "similarity": similarity}
            self.near_pairs.append({**pair, "text": text, "other_text": other_text})
