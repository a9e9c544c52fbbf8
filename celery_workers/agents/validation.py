"""Check every row, say what is wrong with which and how to mend it, and let only rows through that are fit to train on.

A run whose data is not fit stops here, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from celery_workers.contract import (
    Agent,
    AgentConfig,
    AgentContext,
    Category,
    Dataset,
    Estimate,
    EstimateContext,
    Report,
    UserInputError,
)
from celery_workers.contract.estimates import JsonObject
from celery_workers.data.rows import CODES

if TYPE_CHECKING:
    from celery_workers.data.report_building import ReportBuilder
    from celery_workers.data.row_formats import Detected
    from celery_workers.data.validation_report import ValidationReport


class ValidationConfig(AgentConfig):
    """What is too much."""

    on_error: Literal["drop", "stop"] = Field(
        "drop", description="drop leaves rows with errors out, up to max_error_fraction; stop ends the run at the first."
    )
    max_error_fraction: float = Field(
        0.1, ge=0, le=1, description="Largest part of the rows, 0 to 1, that may have errors before the run is stopped."
    )
    max_characters: int = Field(
        200_000, ge=100, le=8_000_000, description="Characters of a row beyond which it is warned about."
    )
    find_personal_data: bool = Field(
        True, description="Look for e-mail addresses, phone, card and account numbers, and secret keys."
    )
    limits: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict,
        description="Largest part of the rows, 0 to 1, that may have a problem before the run is stopped, by its code: "
        '{"secret_key": 0, "leaked_row": 0}. Other warnings are only said.',
    )

    @field_validator("limits")
    @classmethod
    def _check_codes(cls, limits: dict[str, float]) -> dict[str, float]:
        if unknown := sorted(limits.keys() - CODES.keys()):
            raise ValueError(f"limits must name codes of problems ({', '.join(CODES)}), got {', '.join(unknown)}")
        return limits


@dataclass(frozen=True, kw_only=True)
class ValidationInputs:
    """Rows to check."""

    dataset: Dataset


@dataclass(frozen=True, kw_only=True)
class ValidationOutputs:
    """The fit rows, and what was found in all."""

    dataset: Dataset
    report: Report


class ValidationAgent(Agent[ValidationConfig, ValidationInputs, ValidationOutputs]):
    """Stop or drop what is not fit to train on."""

    title = "Validation"
    category = Category.DATA
    version: ClassVar[int] = 2

    def estimate(
        self,
        ctx: EstimateContext,  # noqa: ARG002
        config: ValidationConfig,  # noqa: ARG002
        inputs: Mapping[str, Sequence[JsonObject]],
    ) -> Estimate:
        """Say how long the check takes; the rows are taken to be fit."""
        from celery_workers.data.expected_rows import BYTES_A_ROW_SECOND, number

        dataset = inputs["dataset"][0]
        size = number(dataset, "characters")
        return Estimate(seconds=1 + size / BYTES_A_ROW_SECOND, disk_bytes=int(size / 2), outputs={"dataset": dataset})

    def run(self, ctx: AgentContext, config: ValidationConfig, inputs: ValidationInputs) -> ValidationOutputs:
        """Check all rows and write those without errors.

        Raises: UserInputError: no row is fit, more than the allowed part has errors or what ``limits`` names, or any has
        an error and ``on_error`` is stop.
        """
        from celery_workers.data.report_building import ReportBuilder
        from celery_workers.data.row_formats import Detected, shape_of

        metadata = inputs.dataset.metadata
        shape = shape_of(str(metadata.get("format")))
        detected = Detected(shape=shape, sources={}, reason=str(metadata.get("format_reason", "")))
        builder = ReportBuilder(detected, max_characters=config.max_characters, with_personal_data=config.find_personal_data)
        _check_rows(ctx, inputs.dataset.path, detected, builder)
        report = builder.build()
        _log_problems(ctx, report)
        _judge(config, report)
        kept = {**metadata, "rows": report.fit_rows}
        kept.pop("rows_with_read_problems", None)
        path = ctx.workdir / "report.json"
        return ValidationOutputs(
            dataset=Dataset(path=ctx.workdir / "dataset", metadata=kept),
            report=Report(path=path, metadata=dict(report.as_document().write(path))),
        )


def _check_rows(ctx: AgentContext, folder: Path, detected: Detected, builder: ReportBuilder) -> None:
    import pyarrow as pa

    from celery_workers.data.block_tables import block_from
    from celery_workers.data.checks import is_fit
    from celery_workers.data.dataset_folder import DatasetReader, DatasetWriter
    from celery_workers.data.statistics import SPLIT_COLUMN

    reader = DatasetReader(folder, detected.shape)
    with DatasetWriter(ctx.workdir / "dataset", detected.shape, extras=reader.extras) as writer:
        for table in reader.tables():
            ctx.check_canceled()
            found = builder.add_block(block_from(table, detected.shape, extras=[SPLIT_COLUMN]))
            unfit = {position for position, problems in found.items() if not is_fit(problems)}
            is_kept = pa.array([position not in unfit for position in range(table.num_rows)])
            writer.write_table(table.filter(is_kept) if unfit else table)
            ctx.progress(builder.rows / reader.rows)


def _log_problems(ctx: AgentContext, report: ValidationReport) -> None:
    from celery_workers.data.rows import Severity

    for count in report.counts:
        text = f"{count.code}: {count.rows} rows ({count.first_rows()}). {count.known.meaning} {count.known.fix}"
        ctx.log(text, level="WARNING" if count.known.severity is Severity.ERROR else "INFO")
    ctx.log(f"{report.fit_rows} of {report.rows} rows are fit to train on.", summary=report.summary)


def _judge(config: ValidationConfig, report: ValidationReport) -> None:
    rows, bad = report.rows, report.rows_with_errors
    if not rows:
        raise UserInputError("the dataset has no rows", code="no_rows")
    is_allowed = config.on_error == "drop" and bad <= config.max_error_fraction * rows
    if report.fit_rows and (not bad or is_allowed):
        _judge_limits(config, report)
        return
    if not report.fit_rows:
        rule, code, field = "none is fit to train on", "no_fit_rows", None
    elif config.on_error == "stop":
        rule, code, field = "on_error is stop", "unfit_rows", "on_error"
    else:
        rule, code, field = f"at most {config.max_error_fraction:.1%} may have", "too_many_errors", "max_error_fraction"
    first = report.errors[0]
    raise UserInputError(
        f"{bad} of {rows} rows have errors ({rule}). Row {first.row_number}: {first.message}. {first.suggestion}",
        code=code,
        field=field,
        evidence={
            "rows": rows,
            "rows_with_errors": bad,
            "counts": {count.code: count.rows for count in report.counts},
            "row_numbers": {count.code: count.row_numbers[:50] for count in report.counts},
            "problems": [problem.as_json() for problem in report.errors[:20]],
        },
    )


def _judge_limits(config: ValidationConfig, report: ValidationReport) -> None:
    for count in report.counts:
        limit = config.limits.get(count.code)
        if limit is None or count.rows <= limit * report.rows:
            continue
        raise UserInputError(
            f"{count.rows} of {report.rows} rows have {count.code} (at most {limit:.1%} may): {count.known.meaning} "
            f"Rows {count.first_rows()}. {count.known.fix}",
            code="over_limit",
            field="limits",
            evidence={
                "code": count.code, "rows": count.rows, "limit": limit, "row_numbers": count.row_numbers[:50],
                "problems": [problem.as_json() for problem in report.problems if problem.code == count.code][:20],
            },
        )  # fmt: skip
