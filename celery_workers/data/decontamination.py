"""Find rows that stand in an evaluation set, so that a score on it measures no memory.

    contamination = Contamination(scratch, match="question", threshold=0.8)
    contamination.read(evaluation_sets, after_each=check_canceled)
    contamination.add(rows, shape)                 # as they are taken
    contamination.find(after_each=check_canceled)  # {position among the rows: what it repeats}

By ``question``, a row is left out that asks what an evaluation row asks, whatever it answers: another answer to the same
question is as telling, and evaluation sets often come without the training set's wording of the answer. By ``row``, the
answers count, too. Rows that ask nothing, such as text, are always compared whole.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from celery_workers.contract.ports import Dataset
from celery_workers.data.canonical import CanonicalRow, Value
from celery_workers.data.dataset_folder import DatasetReader
from celery_workers.data.dedup import comparison_text
from celery_workers.data.near_dedup import NearDuplicateFinder
from celery_workers.data.row_formats import RowFormat, Shape, shape_of

Match = Literal["question", "row"]


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """A row of an evaluation set: the set, counted from 1, and its row number."""

    evaluation_set: int
    row_number: int


@dataclass(frozen=True, slots=True)
class Contaminated:
    """The evaluation row that a row repeats, how similar they are, 0 to 1, and how what was compared of both begins."""

    same_as: EvaluationRow
    similarity: float
    text: str
    other_text: str


class Contamination:
    """Compare rows with evaluation sets. Each different text is compared once, however many rows have it."""

    def __init__(self, scratch: Path, *, match: Match, threshold: float) -> None:
        self.match = match
        self._finder = NearDuplicateFinder(scratch, threshold=threshold)
        self._evaluation_rows: list[EvaluationRow] = []
        self._places: dict[bytes, int] = {}
        self._of_rows = array("q")

    @property
    def evaluation_rows(self) -> int:
        """How many rows the evaluation sets have."""
        return len(self._evaluation_rows)

    def read(self, evaluation_sets: Sequence[Dataset], *, after_each: Callable[[], None]) -> None:
        """Take the rows of ``evaluation_sets``, which may be of any row format; call before ``add``."""
        for number, evaluation_set in enumerate(evaluation_sets, start=1):
            shape = shape_of(str(evaluation_set.metadata.get("format")))
            for batch in DatasetReader(evaluation_set.path, shape).batches():
                after_each()
                self._finder.add([self._compared(row.values, shape) for row in batch])
                self._evaluation_rows += [EvaluationRow(number, row.number) for row in batch]

    def add(self, rows: Sequence[CanonicalRow], shape: Shape) -> None:
        """Take rows that are to be trained on."""
        new: list[str] = []
        for row in rows:
            text = self._compared(row.values, shape)
            key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if key not in self._places:
                self._places[key] = len(self._places)
                new.append(text)
            self._of_rows.append(self._places[key])
        self._finder.add(new)

    def find(self, *, after_each: Callable[[], None]) -> dict[int, Contaminated]:
        """Return what each contaminated row repeats, by its position among the rows that were added; call once."""
        known = len(self._evaluation_rows)
        pairs = self._finder.find_known(known, after_each=after_each)
        found = {
            pair.position - known: Contaminated(
                same_as=self._evaluation_rows[pair.other],
                similarity=pair.similarity,
                text=self._finder.beginning(pair.position),
                other_text=self._finder.beginning(pair.other),
            )
            for pair in pairs.values()
        }
        self._finder.close()
        return {position: found[place] for position, place in enumerate(self._of_rows) if place in found}

    def _compared(self, values: Mapping[str, Value], shape: Shape) -> str:
        return (question_text(values, shape) if self.match == "question" else "") or comparison_text(values)


def question_text(values: Mapping[str, Value], shape: Shape) -> str:
    """Return what users ask in a row, all their turns, without system messages and answers; empty where they ask nothing."""
    if shape.format is RowFormat.TEXT:
        return ""
    if not shape.conversations:
        asked = (value for column, value in values.items() if column not in (shape.answer, "system"))
        return "\n".join(text for text in asked if isinstance(text, str) and text.strip())
    messages = values.get(shape.conversations[0])
    if not isinstance(messages, list):
        return ""
    contents = (message.get("content") for message in messages if message.get("role") == "user")
    return "\n".join(content for content in contents if isinstance(content, str) and content.strip())
