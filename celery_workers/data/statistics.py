"""What only all rows together show: lengths, repetitions, leaks between the splits, answers that are the same or few.

    gathered = Gathered(detected)
    for facts in ...: gathered.add(facts)
    findings = find_in_whole(gathered)   # one finding per code that only the whole shows

Memory is bounded: 28 bytes a row, and 9 more where a column names the splits, go to temporary files. Contents are compared
by 64 bits of a keyed hash: among ten million rows a wrong pair has a chance of about 3 in a million, which is good enough to
tell people, not to drop rows.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_workers.data.canonical import Value, messages_of, texts
from celery_workers.data.row_formats import Detected, RowFormat, Shape
from celery_workers.data.spilling import Lowest, Marks, SpilledColumn, parts
from celery_workers.data.splits import named_side

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPLIT_COLUMN = "split"
MAX_LABELS = 20
MAX_LABEL_CHARACTERS = 40
MIN_SAME_CHARACTERS = 20
LANGUAGE_SAMPLE_ROWS = 300
LENGTH_EDGES = (0, *(2**power for power in (0, *range(4, 21))))
"""Lower edges of the length histogram, in characters."""

_NO_SIDE, _TRAIN, _EVAL = 0, 1, 2
_SIDES = {None: _NO_SIDE, False: _TRAIN, True: _EVAL}
_SIDE_NAMES = {None: "other", False: "train", True: "eval"}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is remembered of rows that are fit to train on: an entry of every list for each row, in order.

    ``keys`` are 64 bits of the content, ``labels`` what the row would be a class of; ``splits`` is None where no column
    names them. ``beginning`` gives text of the row at a place in the lists that shows its language; ``questions`` gives
    64 bits of what those at some places ask.
    """

    numbers: Sequence[int]
    characters: NDArray[np.int64]
    keys: Sequence[int]
    answers: Sequence[str | None]
    labels: Sequence[object]
    splits: Sequence[str | None] | None
    beginning: Callable[[int], str]
    questions: Callable[[list[int]], list[int]]


class Gathered:
    """What is remembered of all rows."""

    def __init__(self, detected: Detected) -> None:
        self._has_question = detected.format is not RowFormat.TEXT
        self._numbers = SpilledColumn("int64")
        self._characters = SpilledColumn("uint32")
        self._keys = SpilledColumn("int64")
        self._answers = SpilledColumn("int64")
        self._questions = SpilledColumn("int64")
        self._sides = SpilledColumn("int8")
        self._rows_of_length: Counter[int] = Counter()
        self.labels: Counter[str] | None = Counter()
        self.label_rows: dict[str, int] = {}
        self.splits: Counter[str] = Counter()
        self._language_sample: list[str] = []
        self._random = random.Random(0)  # noqa: S311 (the same file gives the same sample)

    @property
    def rows(self) -> int:
        """Rows so far."""
        return self._numbers.rows

    def add(self, facts: Facts) -> None:
        """Remember rows."""
        import numpy as np

        self._sample_languages(facts)
        self._add_labels(facts)
        if facts.splits is not None and any(facts.splits):
            self._add_sides(facts)
        self._numbers.append(facts.numbers)
        self._characters.append(facts.characters)
        self._rows_of_length.update(
            dict(zip(*map(np.ndarray.tolist, np.unique(facts.characters, return_counts=True)), strict=True))
        )
        self._keys.append(facts.keys)
        answers = facts.answers if self._has_question else ()
        long = [hash(answer) if answer is not None and len(answer) >= MIN_SAME_CHARACTERS else 0 for answer in answers]
        self._answers.append(long or [0] * len(facts.keys))

    def _add_labels(self, facts: Facts) -> None:
        if self.labels is None:
            return
        for number, label in zip(facts.numbers, facts.labels, strict=True):
            if label is None or len(str(label)) > MAX_LABEL_CHARACTERS:
                self.labels = None
                return
            self.labels[str(label)] += 1
            self.label_rows.setdefault(str(label), number)
            if len(self.labels) > MAX_LABELS:
                self.labels = None
                return

    def _add_sides(self, facts: Facts) -> None:
        import numpy as np

        missing = self.rows - self._sides.rows  # rows before the first that names a side
        self._sides.append([_NO_SIDE] * missing)
        self._questions.append([0] * missing)
        splits = facts.splits or ()
        sides = {split: named_side(split) for split in set(splits) if split}
        for split, rows in Counter(splits).items():
            if split:
                self.splits[_SIDE_NAMES[sides[split]]] += rows
        self._sides.append([_SIDES[sides.get(split)] if split else _NO_SIDE for split in splits])
        asking = [place for place, split in enumerate(splits) if split]
        questions = np.zeros(len(splits), np.int64)
        questions[asking] = facts.questions(asking)
        self._questions.append(questions)

    def _sample_languages(self, facts: Facts) -> None:
        """Keep every row with the same chance (reservoir sampling, Vitter 1985, algorithm R)."""
        import numpy as np

        sample = self._language_sample
        rows = len(facts.numbers)
        direct = min(rows, LANGUAGE_SAMPLE_ROWS - len(sample))
        sample += [facts.beginning(index) for index in range(direct)]
        draws = np.array([self._random.random() for _ in range(direct, rows)])
        places = (draws * np.arange(self.rows + direct + 1, self.rows + rows + 1)).astype(np.int64)
        for index in np.flatnonzero(places < LANGUAGE_SAMPLE_ROWS).tolist():
            sample[places[index]] = facts.beginning(direct + index)

    def languages(self) -> dict[str, int]:
        """Return rows by language (ISO 639-1, or unclear) of a sample of ``LANGUAGE_SAMPLE_ROWS``, the most first."""
        from celery_workers.data.languages import language_of

        return dict(Counter(map(language_of, self._language_sample)).most_common())

    def duplicates(self, limit: int) -> tuple[int, list[tuple[int, int]]]:
        """Return how many rows repeat an earlier one, and of the first ``limit`` (row number, number of the first)."""
        found = Lowest(limit)
        for part in parts(self._keys):
            firsts, _ = part.groups()
            repeats = part.positions != firsts
            found.add(part.positions[repeats], firsts[repeats])
        return found.rows, [(self._number(position), self._number(first)) for position, first, _ in found]

    def leaks(self, limit: int) -> tuple[int, list[tuple[int, int]]]:
        """Return how many training rows ask what an evaluation row asks, and of the first ``limit`` (row number, number of
        the first such evaluation row)."""
        import numpy as np

        found = Lowest(limit)
        for part in parts(self._questions, self._sides) if self.splits["eval"] else ():
            held_out, train = (np.flatnonzero(part.beside[0] == side) for side in (_EVAL, _TRAIN))
            if not len(held_out):
                continue
            known, first = np.unique(part.numbers[held_out], return_index=True)
            place = np.minimum(np.searchsorted(known, part.numbers[train]), len(known) - 1)
            asked = known[place] == part.numbers[train]
            found.add(part.positions[train[asked]], part.positions[held_out[first[place[asked]]]])
        return found.rows, [(self._number(position), self._number(first)) for position, first, _ in found]

    def same_answers(self, min_rows: int, limit: int) -> tuple[int, list[tuple[int, int, int]]]:
        """Return how many rows have a long answer that at least ``min_rows`` rows have which are no repetitions of each
        other, and of the first ``limit`` (row number, first row with the answer, rows with it)."""
        repeated = Marks(self.rows)
        for part in parts(self._keys):
            firsts, _ = part.groups()
            repeated.set(part.positions[part.positions != firsts])
        found = Lowest(limit)
        for part in parts(self._answers, wanted=lambda positions, answers: (answers != 0) & ~repeated.at(positions)):
            firsts, counts = part.groups()
            are_many = counts >= min_rows
            found.add(part.positions[are_many], firsts[are_many], counts[are_many])
        return found.rows, [(self._number(position), self._number(first), rows) for position, first, rows in found]

    def long_rows(self, *, times: float, min_rows: int, limit: int) -> tuple[int, list[tuple[int, int, float]]]:
        """Return how many rows have over ``times`` the median and 1,000 characters, and of the first ``limit``
        (row number, characters, multiple of the median)."""
        import numpy as np

        found = Lowest(limit)
        if self.rows < min_rows:
            return 0, []
        middle = self._of_rank([(self.rows - 1) // 2, self.rows // 2])
        median = max(1.0, sum(middle) / 2)
        least = max(1000.0, times * median)
        if max(self._rows_of_length) > least:
            for start, chunk in self._characters.chunks():
                characters = chunk.astype(np.int64)
                places = np.flatnonzero(characters > least)
                found.add(places + start, characters[places])
        return found.rows, [(self._number(place), characters, characters / median) for place, characters, _ in found]

    def label_set(self) -> Counter[str] | None:
        """Return rows by label where the answers are few and short against the number of rows, as classes are; else None."""
        labels = self.labels
        return labels if labels and labels.total() >= 10 * len(labels) else None

    def percentiles(self) -> dict[str, int]:
        """Return characters of a row: median, 90th and 99th percentile, longest."""
        if not self.rows:
            return {}
        ranks = [int((self.rows - 1) * part) for part in (0.5, 0.9, 0.99, 1.0)]
        return dict(zip(("median", "p90", "p99", "longest"), self._of_rank(ranks), strict=True))

    def _of_rank(self, ranks: Sequence[int]) -> list[int]:
        """Return the characters of the rows at ``ranks`` (from 0) when all are put in the order of their length."""
        import numpy as np

        lengths = sorted(self._rows_of_length)
        up_to = np.cumsum([self._rows_of_length[length] for length in lengths])
        return [lengths[index] for index in np.searchsorted(up_to, ranks, side="right")]

    def _number(self, position: int) -> int:
        return self._numbers.at(position)


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
        return _joined([str(message[key]) for message in messages[:last] for key in ("role", "content")])
    answers = answer_columns(shape)
    return _joined([text for field, text in texts(values, shape.format) if field.partition("[")[0] not in answers])


def answer_columns(shape: Shape) -> tuple[str, ...]:
    """Return the columns that are not part of what a row asks."""
    return () if shape.format is RowFormat.TEXT else (shape.answer, "rejected")


def normal(said: Sequence[str]) -> list[str]:
    """Return each of the texts ``said`` without regard to case and white space."""
    folded = [text.casefold() for text in said]
    # Of what is printable, only the space is white space; so most texts need not be taken apart, which is slower.
    return [text.strip() if text.isprintable() and "  " not in text else " ".join(text.split()) for text in folded]


def _joined(pieces: Sequence[str]) -> str:
    return normal([" ".join(pieces)])[0]
