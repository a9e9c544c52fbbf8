"""Read a file, find out what its rows are, and bring them to common columns.

CSV, TSV, JSON, JSON Lines, Parquet, text and Markdown are read, each also compressed with gzip or zstd.
Every row of the file goes on, those that cannot be read or have values of the wrong type with the reason beside them,
so that validation can name them. Columns beyond the row format are kept, as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from celery_workers.contract import Agent, AgentConfig, AgentContext, Category, DataRef, Dataset, Estimate, EstimateContext
from celery_workers.contract.estimates import JsonObject

if TYPE_CHECKING:
    from celery_workers.data.importing import OpenedRows
    from celery_workers.data.rows import SourceFile


class DatasetConfig(AgentConfig):
    """Which file, and what is in it."""

    file_path: DataRef = Field(description="The data: dataset:<id>[@version], s3://bucket/key or example:<name>.")
    format: Literal["auto", "csv", "tsv", "json", "jsonl", "parquet", "text", "markdown"] = Field(
        "auto", description="Format of the file; auto goes by its content and name. gzip and zstd are unpacked."
    )
    row_format: Literal["auto", "chat", "alpaca", "prompt_completion", "preference", "kto", "text"] = Field(
        "auto", description="What a row is; auto goes by the names of the columns and by the first rows."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        max_length=20,
        description='Source column of a common one, where names differ: {"prompt": "question", "completion": "answer"}.',
    )
    limit: int | None = Field(None, ge=1, description="Read only the first rows, this many; empty reads all.")


@dataclass(frozen=True, kw_only=True)
class DatasetInputs:
    """None: the data comes from outside the graph."""


@dataclass(frozen=True, kw_only=True)
class DatasetOutputs:
    """The rows of the file."""

    dataset: Dataset


class DatasetAgent(Agent[DatasetConfig, DatasetInputs, DatasetOutputs]):
    """Bring a file's rows to common columns."""

    title = "Dataset"
    category = Category.DATA
    version = 3

    def estimate(
        self,
        ctx: EstimateContext,
        config: DatasetConfig,
        inputs: Mapping[str, Sequence[JsonObject]],  # noqa: ARG002
    ) -> Estimate:
        """Say how many rows come, from what the file's import counted."""
        from celery_workers.data.expected_rows import BYTES_A_ROW_SECOND, expected_dataset, number

        file = ctx.file(config.file_path)
        if not number(file, "rows"):
            return Estimate(notes=(f"Nobody has counted the rows of {config.file_path} yet.",))
        size = number(file, "size_bytes")
        expected = expected_dataset(file, limit=config.limit)
        return Estimate(seconds=1 + size / BYTES_A_ROW_SECOND, disk_bytes=int(size / 2), outputs={"dataset": expected})

    def run(self, ctx: AgentContext, config: DatasetConfig, inputs: DatasetInputs) -> DatasetOutputs:  # noqa: ARG002
        """Read the file from end to end.

        Raises: UserInputError: the file cannot be read, or its rows fit no format; the message names file, row and column.
        """
        from celery_workers.data.formats import FileFormat
        from celery_workers.data.importing import open_rows
        from celery_workers.data.row_formats import RowFormat

        source = _source(ctx, config)
        opened = open_rows(
            source,
            file_format=None if config.format == "auto" else FileFormat(config.format),
            row_format=None if config.row_format == "auto" else RowFormat(config.row_format),
            mapping=config.columns,
        )
        ctx.log(opened.detected.reason, file=source.name, file_format=opened.file_format.value)
        rows, unread = _copy(ctx, opened, limit=config.limit)
        if unread:
            ctx.log(f"{unread} of {rows} rows could not be read as they are; validation names them.", level="WARNING")
        ctx.log(f"Read {rows} rows.", rows=rows, columns=opened.columns.names)
        metadata: dict[str, object] = {
            "format": opened.detected.format.value,
            "format_reason": opened.detected.reason,
            "file_format": opened.file_format.value,
            "rows": rows,
            "rows_with_read_problems": unread,
        }
        return DatasetOutputs(dataset=Dataset(path=ctx.workdir / "dataset", metadata=metadata))


def _source(ctx: AgentContext, config: DatasetConfig) -> SourceFile:
    from celery_workers.contract import UserInputError
    from celery_workers.data.rows import SourceFile

    path = ctx.reference(config.file_path)
    if not path.is_file():
        raise UserInputError(f"{config.file_path} must be one file", code="not_a_file", field="file_path")
    referred = PurePosixPath(config.file_path.partition(":")[2]).name
    return SourceFile(path=path, name=path.name if path.suffix else referred)


def _copy(ctx: AgentContext, opened: OpenedRows, *, limit: int | None) -> tuple[int, int]:
    """Write the rows and return how many there are, and how many of them have problems that reading brought up."""
    from celery_workers.data.checks import is_fit
    from celery_workers.data.dataset_folder import GrowingDatasetWriter

    unread = 0
    with GrowingDatasetWriter(ctx.workdir / "dataset", opened.detected.shape, has_problems=True) as writer:
        for block, fraction in opened.blocks():
            ctx.check_canceled()
            rows = block if limit is None else block.first(limit - writer.rows)
            writer.write_block(rows)
            unread += sum(not is_fit(problems) for problems in rows.problems.values())
            ctx.progress(fraction)
            if limit is not None and writer.rows >= limit:
                ctx.log(f"Stopped after the first {limit} rows, as asked.", limit=limit)
                break
    ctx.progress(1.0)
    return writer.rows, unread
