"""Check that a model can be trained on the examples, and name their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from celery_workers.contract.errors import UserInputError
from celery_workers.contract.ports import Examples
from celery_workers.data.examples_file import FILE_NAME, ExamplesTable
from celery_workers.modeling.tokenizer import tokenizer_digest

SHOWN_ROWS = 20


def check_tokenizer(examples: Examples, base_folder: Path) -> None:
    """Check that the base model reads the examples' token ids as they were meant.

    Raises: UserInputError: they were made with another tokenizer.
    """
    expected = examples.metadata.get("tokenizer_digest")
    if expected != tokenizer_digest(base_folder):
        raise UserInputError(
            f"the examples were tokenized for {examples.metadata.get('base_model')}, and the tokenizer of this base model is"
            " another; set base_model of the preprocessing step to this one",
            code="wrong_tokenizer",
            field="base_model",
        )


def check_rows(rows: ExamplesTable, *, vocabulary_size: int, max_positions: int | None, what: str) -> None:
    """Check that there are rows, and that each has something to learn and fits the model.

    Raises: UserInputError: they do not; the message names the first rows of the source file that are at fault.
    """
    if not len(rows):
        raise UserInputError(f"the {what} must have at least one row, got none", code="no_examples")
    _refuse(rows, rows.supervised_counts == 0, f"each row of the {what} must have a token to learn", code="nothing_to_learn")
    if max_positions is not None:
        rule = f"each row of the {what} must have at most {max_positions} tokens, the base model's positions"
        _refuse(rows, rows.lengths > max_positions, rule, code="too_long")
    is_foreign = np.array([ids.min() < 0 or ids.max() >= vocabulary_size for ids, _labels, _number in rows])
    rule = f"each token id of the {what} must be 0 to {vocabulary_size - 1}, the base model's vocabulary"
    _refuse(rows, is_foreign, rule, code="wrong_vocabulary")


def content_digest(examples: Examples) -> str:
    """Return the sha256 of the examples: the platform's, or that of the file where the platform gave none."""
    if examples.sha256:
        return examples.sha256
    with (examples.path / FILE_NAME).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse(rows: ExamplesTable, is_bad: npt.NDArray[np.bool_], rule: str, *, code: str) -> None:
    count = int(np.count_nonzero(is_bad))
    if not count:
        return
    numbers = [int(number) for number in rows.row_numbers[is_bad][:SHOWN_ROWS]]
    shown = ", ".join(map(str, numbers[:5])) + (", …" if count > 5 else "")
    raise UserInputError(f"{rule}; {count} do not: {shown}", code=code, evidence={"row_numbers": numbers, "rows": count})
