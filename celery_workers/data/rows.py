"""A row as it was read, and what may be wrong with one: the codes, their severity and the fix they suggest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from celery_workers.contract.errors import UserInputError

MAX_ROW_CHARACTERS = 8 * 1024 * 1024
MAX_COLUMNS = 1000
BATCH_ROWS = 1000
COMPRESSED_ENDINGS = (".gz", ".gzip", ".zst", ".zstd")
BATCH_CHARACTERS = 4 * 1024 * 1024


class Severity(StrEnum):
    """An error makes a row unfit to train on; a warning is only said."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, kw_only=True)
class ProblemCode:
    """What a code means, and the fix it suggests when the problem brings no better one."""

    severity: Severity
    meaning: str
    fix: str


CODES: dict[str, ProblemCode] = {
    "broken_row": ProblemCode(
        severity=Severity.ERROR, meaning="The row cannot be read.", fix="Correct the row in the file, or remove it."
    ),
    "ragged_row": ProblemCode(
        severity=Severity.ERROR,
        meaning="The row has more or fewer fields than the header.",
        fix="Quote fields that hold the delimiter, and give every row the header's number of fields.",
    ),
    "row_too_long": ProblemCode(
        severity=Severity.ERROR, meaning="The row is too long to be read.", fix="Split the row into several."
    ),
    "missing_field": ProblemCode(
        severity=Severity.ERROR, meaning="A required field is absent or null.", fix="Fill in the field, or remove the row."
    ),
    "empty_field": ProblemCode(
        severity=Severity.ERROR,
        meaning="A required field holds nothing but white space.",
        fix="Fill in the field, or remove the row.",
    ),
    "wrong_type": ProblemCode(
        severity=Severity.ERROR, meaning="A field has another type than its format asks for.", fix="Write the value as text."
    ),
    "role_order": ProblemCode(
        severity=Severity.ERROR,
        meaning="The roles of a conversation are unknown or out of order.",
        fix="Begin with at most one system message, then let user and assistant alternate; tools answer calls.",
    ),
    "equal_answers": ProblemCode(
        severity=Severity.ERROR,
        meaning="The preferred answer is the rejected one, so there is nothing to learn.",
        fix="Remove the row, or give it two different answers.",
    ),
    "no_answer": ProblemCode(
        severity=Severity.ERROR,
        meaning="There is no answer to train on.",
        fix="End the row with the answer that the model must learn.",
    ),
    "encoding_damage": ProblemCode(
        severity=Severity.ERROR,
        meaning="Characters were lost: the bytes were not in the file's encoding.",
        fix="Save the file as UTF-8 from its source.",
    ),
    "nul_character": ProblemCode(
        severity=Severity.ERROR, meaning="A field holds the NUL character.", fix="Remove the character, or the row."
    ),
    "mojibake": ProblemCode(
        severity=Severity.WARNING,
        meaning="Text looks as if it had been decoded with the wrong encoding.",
        fix="Leave cleaning on: it repairs what can be repaired.",
    ),
    "control_characters": ProblemCode(
        severity=Severity.WARNING,
        meaning="A field holds invisible control characters.",
        fix="Leave cleaning on: it removes them.",
    ),
    "too_long": ProblemCode(
        severity=Severity.WARNING,
        meaning="The row is far longer than models usually take.",
        fix="Split the row, or choose what happens to over-long rows in preprocessing.",
    ),
    "duplicate_row": ProblemCode(
        severity=Severity.WARNING,
        meaning="The same row stands further up in the file.",
        fix="Leave deduplication on: it keeps the first.",
    ),
    "leaked_row": ProblemCode(
        severity=Severity.WARNING,
        meaning="A training row asks what an evaluation row asks, so a score on that row would measure memory.",
        fix="Remove the training row: the fixes of the dataset do.",
    ),
    "identical_answer": ProblemCode(
        severity=Severity.WARNING,
        meaning="Many different questions have the very same long answer.",
        fix="See whether the answer was copied by mistake; a model learns to give it to everything.",
    ),
    "label_imbalance": ProblemCode(
        severity=Severity.WARNING,
        meaning="The answers are a few labels, and one of them stands in nearly all rows.",
        fix="Add rows with the other labels, or a model learns to give this one always.",
    ),
    "length_outlier": ProblemCode(
        severity=Severity.WARNING,
        meaning="The row is many times as long as the others.",
        fix="See whether several rows ran together; split it if so.",
    ),
    "email_address": ProblemCode(
        severity=Severity.WARNING, meaning="A field holds an e-mail address.", fix="Mask it: the fixes of the dataset do."
    ),
    "phone_number": ProblemCode(
        severity=Severity.WARNING,
        meaning="A field holds what looks like a phone number.",
        fix="Mask it: the fixes of the dataset do.",
    ),
    "payment_card": ProblemCode(
        severity=Severity.WARNING,
        meaning="A field holds a payment card's number, with the right check digit.",
        fix="Mask it: the fixes of the dataset do.",
    ),
    "bank_account": ProblemCode(
        severity=Severity.WARNING,
        meaning="A field holds a bank account's number (IBAN), with the right check digits.",
        fix="Mask it: the fixes of the dataset do.",
    ),
    "secret_key": ProblemCode(
        severity=Severity.WARNING,
        meaning="A field holds a key, token or password, which a model could repeat to anyone.",
        fix="Mask it, and revoke the key.",
    ),
    "formula": ProblemCode(
        severity=Severity.WARNING,
        meaning="A CSV field holds a spreadsheet's formula instead of its result.",
        fix="Export the values, not the formulas. The text is kept as it is and never computed.",
    ),
    "unused_key": ProblemCode(
        severity=Severity.WARNING,
        meaning="A message has keys that are not trained on.",
        fix="Remove the keys, or put what they say into the content.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class RowProblem:
    """One thing wrong with one row. ``field`` is empty where the row as a whole is at fault."""

    row_number: int
    code: str
    message: str
    field: str = ""
    fix: str = ""

    @property
    def severity(self) -> Severity:
        """Whether the row is unfit, or only noteworthy."""
        return CODES[self.code].severity

    @property
    def suggestion(self) -> str:
        """What to do about it."""
        return self.fix or CODES[self.code].fix

    def as_json(self) -> dict[str, object]:
        """Return the entry of a report."""
        return {
            "row_number": self.row_number,
            "field": self.field,
            "code": self.code,
            "severity": self.severity.value,
            "message": self.message,
            "fix": self.suggestion,
        }


@dataclass(slots=True)
class SourceRow:
    """A row of the file: its 1-based number, and its values, or why they cannot be read.

    Beside values, ``problem`` is a warning.
    """

    number: int
    values: dict[str, object] | None
    problem: RowProblem | None = None


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows in the order of the file; ``fraction`` of the file, 0 to 1, has been read with them."""

    rows: list[SourceRow]
    fraction: float


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A local file, and the name by which its user knows it."""

    path: Path
    name: str

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size

    @property
    def extension(self) -> str:
        """The name's ending in lower case without the dot, or nothing; that of a compression is passed over."""
        name = Path(self.name.lower())
        return (Path(name.stem) if name.suffix in COMPRESSED_ENDINGS else name).suffix.lstrip(".")

    def error(
        self, message: str, *, code: str, row: int | None = None, column: str | None = None, line: int | None = None
    ) -> UserInputError:
        """Return the error that names this file, and the row, line or column at fault where they are known."""
        places = {"row": row, "line": line, "column": column}
        known = {name: value for name, value in places.items() if value is not None}
        where = ", ".join(
            [self.name, *(f"{name} {value!r}" if name == "column" else f"{name} {value}" for name, value in known.items())]
        )
        return UserInputError(f"{where}: {message}", code=code, evidence={"file": self.name, **known})


def broken(number: int, message: str, *, code: str = "broken_row") -> SourceRow:
    """Return a row that could not be read."""
    return SourceRow(number, None, RowProblem(row_number=number, code=code, message=message))
