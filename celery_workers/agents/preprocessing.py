"""Turn rows into exactly the tokens that are trained: clean, deduplicate, split, template, tokenize and mask.

Every row is accounted for in the report: kept, dropped and why, truncated and what that cost.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from celery_workers.contract import (
    Agent,
    AgentConfig,
    AgentContext,
    BaseModelRef,
    Category,
    Dataset,
    Estimate,
    EstimateContext,
    Examples,
    Report,
    UserInputError,
)
from celery_workers.contract.estimates import JsonObject

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from celery_workers.data.example_making import ExampleMaker
    from celery_workers.data.examples_file import ExamplesTable
    from celery_workers.data.row_formats import Shape
    from celery_workers.data.selection import Selection, SelectionRules
    from celery_workers.data.tokenization import Encoder

_DEFAULT_MAX_LENGTH_TOKENS = 2048
_BLOCK_ROWS = 512
BYTES_A_TOKEN = 8
"""An id and a label."""


def _near_dedup(value: object) -> object:
    """Take true and false for drop and off, as ``dedup`` does."""
    return {True: "drop", False: "off"}[value] if isinstance(value, bool) else value


class PreprocessingConfig(AgentConfig):
    """How rows become examples."""

    base_model: BaseModelRef = Field(description="The model that will be trained; its tokenizer and chat template are used.")
    clean: bool = Field(True, description="Repair encoding damage, compose Unicode, remove control characters, trim.")
    strip_html: bool = Field(False, description="Replace HTML by the text that a browser would show.")
    collapse_white_space: bool = Field(False, description="Make one space of several, and at most one blank line of several.")
    mask_personal_data: list[Literal["email", "phone", "card", "iban", "key"]] = Field(
        default_factory=list, max_length=5, description="Kinds of personal data and secrets to replace by a placeholder."
    )
    languages: list[str] = Field(
        default_factory=list, max_length=100,
        description="Languages to keep, as ISO 639-1 codes such as en; empty keeps all. Rows too short to tell stay.",
    )  # fmt: skip
    dedup: bool = Field(True, description="Drop rows whose content repeats an earlier row exactly.")
    near_dedup: Annotated[Literal["off", "group", "drop"], BeforeValidator(_near_dedup)] = Field(
        "off", description="Near duplicates: drop all but the first, or group them on one side of the split."
    )
    near_dedup_threshold: float = Field(
        0.8,
        ge=0.5,
        le=1,
        description="Similarity from which rows are near duplicates: the share of 8-byte runs in both, 0.5 to 1.",
    )
    evaluation_match: Literal["question", "row"] = Field(
        "question", description="Rows of evaluation_sets: leave out what asks the same, or only what answers the same, too."
    )
    template: Literal[
        "model", "alpaca", "chatml", "gemma", "llama2", "llama3", "mistral", "phi", "qwen", "zephyr", "custom"
    ] = Field(
        "model",
        description="Text around question and answer; model is the model's own chat template, custom is custom_template.",
    )  # fmt: skip
    custom_template: str | None = Field(
        None, max_length=100_000, description="Jinja text over messages and tools, as chat templates are written."
    )
    train_on_roles: list[Literal["assistant", "user", "system", "tool"]] = Field(
        ["assistant"], min_length=1, max_length=4,
        description="Whose messages are trained; train on a message goes before it.",
    )  # fmt: skip
    system_prompt: str = Field("", max_length=20_000, description="System message for rows that have none of their own.")
    eval_fraction: float = Field(0.1, ge=0, le=0.9, description="Part of the rows to hold out for evaluation, 0 to 0.9.")
    split_column: str | None = Field(
        None, max_length=200, description="Column that says train or eval for each row; takes the place of eval_fraction."
    )
    group_column: str | None = Field(
        None, max_length=200, description="Column whose rows of equal value stand on one side of the split."
    )
    max_length_tokens: int | None = Field(
        None, ge=8, le=1_048_576, description="Most tokens of an example; empty is the model's context, at most 2048."
    )
    over_long: Literal["error", "drop", "truncate", "chunk"] = Field(
        "drop",
        description="What happens to longer rows; truncate cuts the end and counts the answers that it cuts (where answers are "
        "compared or judged, the beginning of the prompt), chunk makes several examples of a text.",
    )
    chunk_overlap_tokens: int = Field(
        0, ge=0, le=65_536, description="Tokens that a chunk repeats of the one before, untrained; at most half a chunk."
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of the split.")

    @model_validator(mode="after")
    def _check_split(self) -> Self:
        if self.split_column and self.group_column:
            raise ValueError("group_column must be empty where split_column names the sides")
        return self


@dataclass(frozen=True, kw_only=True)
class PreprocessingInputs:
    """Rows, best after validation, and sets of which no row may be trained on."""

    dataset: Dataset
    evaluation_sets: list[Dataset] | None = None


@dataclass(frozen=True, kw_only=True)
class PreprocessingOutputs:
    """Examples to train on, examples held out (absent if none are), and what became of every row."""

    examples: Examples
    eval_examples: Examples | None
    report: Report


class PreprocessingAgent(Agent[PreprocessingConfig, PreprocessingInputs, PreprocessingOutputs]):
    """Make token ids and labels of rows."""

    version = 3
    title = "Preprocessing"
    category = Category.DATA

    def estimate(
        self,
        ctx: EstimateContext,  # noqa: ARG002
        config: PreprocessingConfig,
        inputs: Mapping[str, Sequence[JsonObject]],
    ) -> Estimate:
        """Say how many tokens the rows will have, from their characters."""
        from celery_workers.data.expected_rows import ROWS_A_SECOND, expected_examples, number, part_of

        dataset = inputs["dataset"][0]
        longest = config.max_length_tokens or _DEFAULT_MAX_LENGTH_TOKENS
        expected = expected_examples(dataset, longest=longest, base_model=config.base_model)
        rows, tokens = number(expected, "rows"), int(number(expected, "tokens"))
        outputs = {"examples": part_of(expected, 1 - config.eval_fraction)}
        if config.eval_fraction:
            outputs["eval_examples"] = part_of(expected, config.eval_fraction)
        return Estimate(
            seconds=4 + rows / ROWS_A_SECOND,
            disk_bytes=tokens * BYTES_A_TOKEN,
            tokens=tokens,
            outputs=outputs,
            notes=("The tokens are guessed from the characters; preprocessing counts them.",),
        )

    def run(self, ctx: AgentContext, config: PreprocessingConfig, inputs: PreprocessingInputs) -> PreprocessingOutputs:
        """Clean and choose rows, then tokenize them.

        Raises: UserInputError: a row would teach something else than it says, rows are unfit or too long where that is an
        error, no row is left, or model and template don't fit each other.
        """
        from celery_workers.data.examples_metadata import describe_examples, describe_making
        from celery_workers.data.preparation_report import Preparation, describe
        from celery_workers.data.row_formats import shape_of
        from celery_workers.modeling.loading import load_tokenizer

        shape = shape_of(str(inputs.dataset.metadata.get("format")))
        folder = ctx.reference(config.base_model)
        tokenizer = load_tokenizer(folder)
        encoder, maker = set_up(config, shape, tokenizer, folder)
        selection = _select(ctx, config, shape, inputs)
        train, held_out = _tokenize(ctx, shape, selection, maker)
        metadata = describe_making(maker, encoder, folder) | {"base_model": config.base_model, "seed": config.seed}
        preparation = Preparation(
            selection=selection.counts, making=maker.counts, train=train, held_out=held_out, samples=maker.samples,
            settings=metadata, split_at_answer_rows=encoder.split_at_answer,
        )  # fmt: skip
        document = describe(preparation)
        said = f"{train.example_count} examples to train on, {held_out.example_count} held out. {document.verdict}"
        ctx.log(said, summary=document.summary)
        report = Report(path=ctx.workdir / "report.json", metadata=dict(document.write(ctx.workdir / "report.json")))
        examples = Examples(path=ctx.workdir / "examples", metadata=metadata | describe_examples(train))
        eval_path = ctx.workdir / "eval_examples"
        eval_examples = Examples(path=eval_path, metadata=metadata | describe_examples(held_out)) if len(held_out) else None
        return PreprocessingOutputs(examples=examples, eval_examples=eval_examples, report=report)


def set_up(
    config: PreprocessingConfig, shape: Shape, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> tuple[Encoder, ExampleMaker]:
    """Return what turns rows into examples by ``config``; the token view uses the same.

    Raises: UserInputError: rows of that format cannot be prepared, or model, template and limit don't fit each other.
    """
    from celery_workers.data.example_making import ExampleMaker, OverLong
    from celery_workers.data.preference_examples import check_trained_roles
    from celery_workers.data.templates import choose_template
    from celery_workers.data.tokenization import Encoder, context_tokens

    check_trained_roles(config.train_on_roles, shape.format)
    template = choose_template(
        config.template, shape.format, tokenizer, system_prompt=config.system_prompt,
        custom_template=config.custom_template, train_on_roles=config.train_on_roles,
    )  # fmt: skip
    encoder = Encoder(tokenizer, folder, adds_special_tokens=template.adds_special_tokens)
    context = context_tokens(tokenizer, folder)
    if context and config.max_length_tokens and config.max_length_tokens > context:
        message = f"max_length_tokens must be at most {context}, the model's context, got {config.max_length_tokens}"
        raise UserInputError(message, code="too_long_for_model", field="max_length_tokens")
    limit = config.max_length_tokens or min(context or _DEFAULT_MAX_LENGTH_TOKENS, _DEFAULT_MAX_LENGTH_TOKENS)
    maker = ExampleMaker(
        tokenizer=tokenizer, template=template, encoder=encoder, row_format=shape.format, max_length_tokens=limit,
        over_long=OverLong(config.over_long), chunk_overlap_tokens=config.chunk_overlap_tokens,
    )  # fmt: skip
    return encoder, maker


def _select(ctx: AgentContext, config: PreprocessingConfig, shape: Shape, inputs: PreprocessingInputs) -> Selection:
    """Write the rows that go on to ``selected`` below the workdir; the first half of the progress."""
    from celery_workers.data.dataset_folder import DatasetReader, DatasetWriter
    from celery_workers.data.decontamination import Contamination
    from celery_workers.data.near_dedup import NearDuplicateFinder
    from celery_workers.data.selection import Selection

    reader = DatasetReader(inputs.dataset.path, shape)
    rules = selection_rules(config)
    rules.check_columns(reader.extras)
    threshold, contamination = config.near_dedup_threshold, None
    finder = NearDuplicateFinder(ctx.workdir / "compared", threshold=threshold) if config.near_dedup != "off" else None
    if inputs.evaluation_sets:
        contamination = Contamination(ctx.workdir / "evaluated", match=config.evaluation_match, threshold=threshold)
        contamination.read(inputs.evaluation_sets, after_each=ctx.check_canceled)
    selection = Selection(shape, rules, finder=finder, contamination=contamination)
    with DatasetWriter(ctx.workdir / "selected", shape) as writer:
        for batch in reader.batches():
            ctx.check_canceled()
            writer.write(selection.take(batch))
            ctx.progress(0.5 * selection.counts.rows / reader.rows)
    if not writer.rows:
        raise UserInputError("no row is left after cleaning", code="no_rows")
    selection.settle(after_each=ctx.check_canceled)
    return selection


def selection_rules(config: PreprocessingConfig) -> SelectionRules:
    """Return what the first pass does by ``config``; the token view uses the same."""
    from celery_workers.data.personal_data import PersonalData
    from celery_workers.data.selection import SelectionRules

    return SelectionRules(
        is_cleaning=config.clean, is_deduplicating=config.dedup, eval_fraction=config.eval_fraction, seed=config.seed,
        split_column=config.split_column, group_column=config.group_column, is_stripping_html=config.strip_html,
        is_collapsing_white_space=config.collapse_white_space, masked=tuple(map(PersonalData, config.mask_personal_data)),
        languages=tuple(config.languages), near_duplicates=config.near_dedup,
    )  # fmt: skip


def _tokenize(
    ctx: AgentContext, shape: Shape, selection: Selection, maker: ExampleMaker
) -> tuple[ExamplesTable, ExamplesTable]:
    """Write the examples of both sides; the second half of the progress."""
    from celery_workers.data.dataset_folder import DatasetReader
    from celery_workers.data.examples_file import ExamplesWriter, open_examples

    reader = DatasetReader(ctx.workdir / "selected", shape)
    all_sides = iter(selection.sides())
    done = 0
    with (
        ExamplesWriter(ctx.workdir / "examples", kind=maker.kind) as train,
        ExamplesWriter(ctx.workdir / "eval_examples", kind=maker.kind) as held_out,
    ):
        for batch in reader.batches():
            for start in range(0, len(batch), _BLOCK_ROWS):
                ctx.check_canceled()
                rows = batch[start : start + _BLOCK_ROWS]
                sides = list(zip(rows, all_sides, strict=False))
                going_on = [(row, side) for row, side in sides if side is not None]
                maker.make([row for row, _ in going_on], [side for _, side in going_on], train=train, held_out=held_out)
                done += len(rows)
                ctx.progress(0.5 + 0.5 * done / reader.rows)
    maker.check_lengths()
    shutil.rmtree(ctx.workdir / "selected")
    if not train.rows:
        dropped = maker.counts.dropped_rows
        message = f"no row is left to train on: {held_out.rows} are held out, {dropped} were too long and dropped"
        raise UserInputError(message, code="no_train_rows", evidence={"too_long_rows": maker.counts.too_long})
    if not held_out.rows:
        ctx.log("No row is held out: the model cannot be compared on rows that it was not trained on.", level="WARNING")
    return open_examples(ctx.workdir / "examples"), open_examples(ctx.workdir / "eval_examples")
