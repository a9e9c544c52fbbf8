"""What only all rows together show: lengths, repetitions, leaks between the splits, answers that are the same or few.

    gathered = Gathered(detected)
    for row in rows: gathered.add(row, characters=..., is_fit=...)
    findings = find(gathered)            # one finding per code that only the whole shows
    gathered.statistics()                # the figures of a dataset version, as JSON

Memory is 28 bytes a row, and 9 more where a column names the splits. Contents are compared by 64 bits of a keyed hash: among
ten million rows a wrong pair has a chance of about 3 in a million, which is good enough to tell people, not to drop rows.
"""

from __future__ import annotations

import json
import random
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping

from celery_workers.data.canonical import CanonicalRow, Message, Value, messages_of, texts
from celery_workers.data.row_formats import Detected, RowFormat, Shape
from celery_workers.data.splits import named_side

SPLIT_COLUMN = "split"
MAX_LABELS = 20
MAX_LABEL_CHARACTERS = 40
MIN_SAME_CHARACTERS = 20
LANGUAGE_SAMPLE_ROWS = 300
LENGTH_EDGES = (0, *(2**power for power in (0, *range(4, 21))))
"""Lower edges of the length histogram, in characters."""

_NO_SIDE, _TRAIN, _EVAL = 0, 1, 2
_BITS = 0xFFFF_FFFF_FFFF_FFFF
_MAX_LENGTH = 2**32 - 1


class Gathered:
    """What is remembered of every row."""

    def __init__(self, detected: Detected) -> None:
        self._shape = detected.shape
        self._has_question = detected.format is not RowFormat.TEXT
        self.numbers = array("q")
        self.lengths = array("I")
        self.keys = array("Q")
        self.answers = array("Q")
        self.questions = array("Q")
        self.sides = array("b")
        self.labels: Counter[str] | None = Counter()
        self.label_rows: dict[str, int] = {}
        self.splits: Counter[str] = Counter()
        self._language_sample: list[str] = []
        self._random = random.Random(0)  # noqa: S311 (the same file gives the same sample)

    def add(self, row: CanonicalRow, *, characters: int, beginning: str = "") -> None:
        """Remember a row that is fit to train on; ``beginning`` is text of it that shows its language."""
        self._sample_language(beginning)
        self.numbers.append(row.number)
        self.lengths.append(min(characters, _MAX_LENGTH))
        self.keys.append(content_hash(row.values))
        self._add_answer(row)
        if split := row.extras.get(SPLIT_COLUMN):
            self._add_side(row, split)

    def _add_answer(self, row: CanonicalRow) -> None:
        answer = answer_of(row.values, self._shape) if self._has_question else None
        is_long = answer is not None and len(answer) >= MIN_SAME_CHARACTERS
        self.answers.append(hash(answer) & _BITS if is_long else 0)
        if self.labels is None:
            return
        label = row.values.get("label", answer)
        if label is None or len(str(label)) > MAX_LABEL_CHARACTERS:
            self.labels = None
            return
        self.labels[str(label)] += 1
        self.label_rows.setdefault(str(label), row.number)
        if len(self.labels) > MAX_LABELS:
            self.labels = None

    def _add_side(self, row: CanonicalRow, split: str) -> None:
        side = named_side(split)
        self.splits["other" if side is None else "eval" if side else "train"] += 1
        missing = len(self.keys) - 1 - len(self.sides)  # rows before the first that names a side
        self.sides.frombytes(bytes(missing))
        self.questions.frombytes(bytes(8 * missing))
        self.sides.append(_NO_SIDE if side is None else _EVAL if side else _TRAIN)
        self.questions.append(hash(question_of(row.values, self._shape)) & _BITS)

    def _sample_language(self, beginning: str) -> None:
        """Keep every row with the same chance (reservoir sampling, Vitter 1985, algorithm R)."""
        sample = self._language_sample
        if len(sample) < LANGUAGE_SAMPLE_ROWS:
            sample.append(beginning)
            return
        place = int(self._random.random() * (len(self.numbers) + 1))
        if place < LANGUAGE_SAMPLE_ROWS:
            sample[place] = beginning

    def languages(self) -> dict[str, int]:
        """Return rows by language (ISO 639-1, or unclear) of a sample of ``LANGUAGE_SAMPLE_ROWS``, the most first."""
        from celery_workers.data.languages import language_of

        return dict(Counter(map(language_of, self._language_sample)).most_common())

    def duplicates(self) -> Iterator[tuple[int, int]]:
        """Yield (row number, number of the first row with that content), in the order of the rows."""
        for position, first in _repeats(self.keys):
            yield self.numbers[position], self.numbers[first]

    def leaks(self) -> Iterator[tuple[int, int]]:
        """Yield (number of a training row, number of the first evaluation row that asks the same)."""
        if _EVAL not in self.sides:
            return
        import numpy as np

        sides = np.frombuffer(self.sides, dtype=np.int8)
        questions = np.frombuffer(self.questions, dtype=np.uint64)
        held_out = np.flatnonzero(sides == _EVAL)
        known, first = np.unique(questions[held_out], return_index=True)
        train = np.flatnonzero(sides == _TRAIN)
        place = np.minimum(np.searchsorted(known, questions[train]), len(known) - 1)
        for index in np.flatnonzero(known[place] == questions[train]):
            yield self.numbers[train[index]], self.numbers[held_out[first[place[index]]]]

    def same_answers(self, min_rows: int) -> Iterator[tuple[int, int, int]]:
        """Yield (row number, first row with its long answer, rows with it) where at least ``min_rows`` rows that are no
        repetitions of each other share one."""
        import numpy as np

        answers = np.frombuffer(self.answers, dtype=np.uint64)
        unique = (
            np.unique(np.frombuffer(self.keys, dtype=np.uint64), return_index=True)[1] if len(answers) else np.array([], int)
        )
        positions = np.sort(unique[answers[unique] != 0])
        _, first, group, counts = np.unique(answers[positions], return_index=True, return_inverse=True, return_counts=True)
        for index in np.flatnonzero(counts[group] >= min_rows):
            where = positions[index], positions[first[group[index]]]
            yield self.numbers[where[0]], self.numbers[where[1]], int(counts[group[index]])

    def long_rows(self, *, times: float, min_rows: int) -> Iterator[tuple[int, int, float]]:
        """Yield (row number, characters, multiple of the median) of rows over ``times`` the median and 1,000 characters."""
        if len(self.lengths) < min_rows:
            return
        import numpy as np

        lengths = np.frombuffer(self.lengths, dtype=np.uint32)
        median = max(1.0, float(np.median(lengths)))
        for position in np.flatnonzero(lengths > max(1000.0, times * median)):
            yield self.numbers[position], int(lengths[position]), float(lengths[position]) / median

    def label_set(self) -> Counter[str] | None:
        """Return rows by label where the answers are few and short against the number of rows, as classes are; else None."""
        labels = self.labels
        return labels if labels and labels.total() >= 10 * len(labels) else None

    def percentiles(self) -> dict[str, int]:
        """Return characters of a row: median, 90th and 99th percentile, longest."""
        if not self.lengths:
            return {}
        import numpy as np

        lengths = np.frombuffer(self.lengths, dtype=np.uint32)
        values = np.percentile(lengths, [50, 90, 99, 100], method="lower")
        return dict(zip(("median", "p90", "p99", "longest"), map(int, values), strict=True))


def content_hash(values: Mapping[str, Value]) -> int:
    """Return 64 bits that are equal for equal content within this process; an absent, null or empty column are the same."""
    parts: list[object] = []
    for column, value in values.items():
        if value is not None and value != "":
            parts.append(column)
            parts.append(_frozen_messages(value) if isinstance(value, list) else value)
    return hash(tuple(parts)) & _BITS


def answer_of(values: Mapping[str, Value], shape: Shape) -> str | None:
    """Return what a model learns to write last."""
    value = values.get(shape.answer)
    if isinstance(value, list):
        said = (message["content"] for message in reversed(value) if message["role"] == "assistant")
        value = next(said, None)
    return value if isinstance(value, str) else None


def question_of(values: Mapping[str, Value], shape: Shape) -> str:
    """Return what a row asks, without regard to case and white space: all of it but the (last) answers."""
    if shape.format is RowFormat.CHAT:
        messages = messages_of(values) or []
        last = max((place for place, message in enumerate(messages) if message["role"] == "assistant"), default=0)
        said = [f"{message['role']} {message['content']}" for message in messages[:last]]
    else:
        answers = () if shape.format is RowFormat.TEXT else (shape.answer, "rejected")
        said = [text for field, text in texts(values, shape.format) if field.partition("[")[0] not in answers]
    return " ".join("\n".join(said).casefold().split())


def _frozen_messages(messages: list[Message]) -> tuple[object, ...]:
    return tuple(
        [
            (message["role"], message["content"]) if len(message) == 2 else json.dumps(message, sort_keys=True)
            for message in messages
        ]
    )


def _repeats(keys: array[int]) -> Iterator[tuple[int, int]]:
    """Yield (position, first position of the same key) of every key that stood before."""
    if not keys:
        return
    import numpy as np

    _, first, group = np.unique(np.frombuffer(keys, dtype=np.uint64), return_index=True, return_inverse=True)
    first_position = first[group]
    for position in np.flatnonzero(first_position != np.arange(len(keys))):
        yield int(position), int(first_position[position])
