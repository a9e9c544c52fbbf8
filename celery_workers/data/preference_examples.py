"""Make conversations of rows that compare or judge answers, and cut those that are too long.

A preference row becomes two conversations with one prompt, a KTO row becomes one. Only messages of the answer are trained,
each to its end of turn; whatever the prompt's messages say of themselves. Rows of all other formats pass through as they are.

Where the longest conversation of a row has too many tokens and is to be truncated, the same tokens are cut from the prompt's
beginning in each: the answers stay whole, for a comparison of answers without their ends would teach something else, and the
prompts stay equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from celery_workers.contract.errors import UserInputError
from celery_workers.data.canonical import Value
from celery_workers.data.examples_file import IGNORED_LABEL
from celery_workers.data.examples_schema import ExamplesKind
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.templates import RowRefused
from celery_workers.data.tokenization import TokenRow

_KINDS = {RowFormat.PREFERENCE: ExamplesKind.PREFERENCE, RowFormat.KTO: ExamplesKind.KTO}
_ANSWERS: dict[RowFormat, tuple[str, ...]] = {RowFormat.PREFERENCE: ("chosen", "rejected"), RowFormat.KTO: ("completion",)}

SIDES: dict[ExamplesKind, tuple[str, ...]] = {
    ExamplesKind.SUPERVISED: ("",),
    ExamplesKind.PREFERENCE: ("chosen", "rejected"),
    ExamplesKind.KTO: ("",),
}
"""What the token rows of one example are called, where there are several."""


def kind_of_rows(row_format: RowFormat) -> ExamplesKind:
    """Return what examples rows of a format become."""
    return _KINDS.get(row_format, ExamplesKind.SUPERVISED)


def rendered_format(row_format: RowFormat) -> RowFormat:
    """Return the format in which rows reach the template."""
    return RowFormat.CHAT if row_format in _KINDS else row_format


def check_trained_roles(roles: Sequence[str], row_format: RowFormat) -> None:
    """Check that only answers are to be trained where answers are compared or judged.

    Raises: UserInputError: other roles are to be trained as well, which would judge the prompt.
    """
    if row_format in _KINDS and set(roles) != {"assistant"}:
        raise UserInputError(
            f"train_on_roles must be assistant alone for rows of the format {row_format.value}, got {', '.join(roles)}: "
            "only the answers are compared or judged",
            code="untrainable_role",
            field="train_on_roles",
        )


def as_rendered(values: Mapping[str, Value], row_format: RowFormat) -> list[Mapping[str, Value]]:
    """Return the values of a row as the template takes them: of a preference the chosen, then the rejected conversation."""
    if row_format not in _KINDS:
        return [values]
    prompt = [{**message, "train": False} for message in _listed(values["prompt"])]
    return [{"messages": [*prompt, *_listed(values[column])], "tools": values.get("tools")} for column in _ANSWERS[row_format]]


def check_sides(sides: Sequence[TokenRow | RowRefused], row_format: RowFormat) -> list[TokenRow] | RowRefused:
    """Return the token rows of one row of the dataset, or why it cannot be one example."""
    made: list[TokenRow] = []
    for index, side in enumerate(sides):
        if isinstance(side, RowRefused):
            name = f"{_ANSWERS[row_format][index]}: " if row_format in _KINDS else ""
            return RowRefused(side.code, f"{name}{side}")
        made.append(side)
    if row_format is not RowFormat.PREFERENCE:
        return made
    chosen, rejected = made
    prompts = [side.input_ids[: prompt_length(side)] for side in made]
    if prompts[0] != prompts[1]:
        return RowRefused(
            "prompts_differ",
            f"chosen and rejected must have the same prompt tokens, got {len(prompts[0])} and {len(prompts[1])} that differ "
            f"from token {_first_difference(*prompts)} on: the chat template writes the prompt by its answer, or the first "
            "message of an answer is not trained",
        )
    if chosen.input_ids == rejected.input_ids:
        return RowRefused("equal_answers", "chosen and rejected become the same tokens, so there is nothing to learn")
    return made


def prompt_length(row: TokenRow) -> int:
    """Return how many tokens stand before the first one that is trained."""
    return next((place for place, label in enumerate(row.labels) if label != IGNORED_LABEL), len(row.labels))


def cut_prompt(sides: Sequence[TokenRow], limit_tokens: int, *, kept_beginning: int) -> list[TokenRow] | None:
    """Return the sides without as much of their prompt that the longest has ``limit_tokens``.

    The first ``kept_beginning`` tokens, such as beginning-of-text, stay. None: the prompt is too short, or nothing would be
    left of it.
    """
    excess = max(len(side.input_ids) for side in sides) - limit_tokens
    end = kept_beginning + excess
    if end >= prompt_length(sides[0]):
        return None
    return [
        TokenRow(side.input_ids[:kept_beginning] + side.input_ids[end:], side.labels[:kept_beginning] + side.labels[end:])
        for side in sides
    ]


def _listed(value: Value) -> list[dict[str, str | bool | None]]:
    return value if isinstance(value, list) else []


def _first_difference(one: Sequence[int], other: Sequence[int]) -> int:
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
