"""What was measured of one model: the part of an evaluation report that comparisons and the registry read."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from celery_workers.contract.context import ReportDocument
from celery_workers.contract.errors import UserInputError

REPORT_KIND = "evaluation"


class Role(StrEnum):
    """What the model is in a comparison: where things started from, or what was made of it."""

    BASE = "base"
    TUNED = "tuned"


class SubjectRow(BaseModel):
    """Measurements of one row; null where a metric does not apply. ``loss`` is in nats per supervised token."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    row_number: int
    loss: float | None = None
    supervised_tokens: int
    exact_match: bool | None = None
    generated: str | None = None
    reference: str | None = None


class Subject(BaseModel):
    """One model's scores, overall and by row, in the order of the examples.

    ``model_sha256`` is that of the model's artifact; of a base that came by reference, the digest of its weight files.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    role: Role
    model_sha256: str
    base_model: str
    model_kind: str
    precision: str
    scores: dict[str, float | int | None]
    rows: list[SubjectRow]

    def without_rows(self) -> dict[str, object]:
        """Return what the registry keeps: everything but the rows."""
        return self.model_dump(mode="json", exclude={"rows"})


class EvaluationData(BaseModel):
    """``data`` of an evaluation report. Scores of two reports are comparable where all but the subjects is equal."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    examples_sha256: str
    match: str
    max_new_tokens: int
    subjects: list[Subject]


def read_evaluation(path: Path) -> tuple[ReportDocument, EvaluationData]:
    """Read an evaluation report.

    Raises: UserInputError: the file is another kind of report; the message says which.
    """
    document = ReportDocument.model_validate_json(path.read_bytes())
    if document.kind != REPORT_KIND:
        raise UserInputError(
            f"a comparison takes evaluation reports, got a {document.kind} report ({document.title})", code="wrong_report"
        )
    try:
        return document, EvaluationData.model_validate(document.data)
    except ValidationError as error:
        raise UserInputError(
            f"the evaluation report {document.title!r} cannot be read: {error}", code="wrong_report"
        ) from error
