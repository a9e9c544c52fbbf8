"""What is counted of a version on demand, by a process of its own: tokens of its rows, and near duplicates among them.

The web process imports neither transformers nor numpy for it. A question has ``MEASURE_SECONDS`` and its turn: one process
measures at a time. The answer is kept, as a version never changes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from celery_workers.contract.errors import AgentError, ErrorKind
from celery_workers.contract.measures import (
    CountTokens,
    FindPairs,
    FoundPairs,
    MeasuredFile,
    TokenLengths,
    from_measure,
)
from celery_workers.contract.tokens import Refused
from datasets_app.models import DatasetVersion, Measurement
from datasets_app.preview import local_file
from pipelines.engine.one_question import NoAnswer, ask_process
from pipelines.references import UnresolvedReference, find_tokenizer
from platform_site.common.errors import DomainError, InvalidInput, Problem, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from platform_site.models import User

logger = logging.getLogger(__name__)

MEASURE_SECONDS = 180.0
TURN_SECONDS = 60.0

_turn = Lock()


def count_tokens(*, user: User, version: DatasetVersion, model: str, recount: bool = False) -> Measurement:
    """Return how many tokens the rows of ``version`` have for ``model``, counting them where nobody has yet.

    Raises: UnresolvedReference, InvalidInput: the model or the file does not fit. Unavailable. ContentMissing.
    """
    if not recount and (known := _known(version, Measurement.Kind.TOKENS, model)):
        return known
    with _translated(), local_file(version) as path:
        tokenizer = find_tokenizer(model, user=user)
        question = CountTokens(file=_file(version, path), folder=str(tokenizer.path), bundled=tokenizer.bundled)
        answer = _ask(question)
    return _keep(version, Measurement.Kind.TOKENS, model, answer)


def find_near_duplicates(*, version: DatasetVersion, threshold: float) -> Measurement:
    """Return the near duplicates of ``version`` from ``threshold`` on, looking for them where nobody has yet.

    Raises: InvalidInput: the file cannot be read. Unavailable. ContentMissing.
    """
    subject = f"{threshold:.2f}"
    if known := _known(version, Measurement.Kind.NEAR_DUPLICATES, subject):
        return known
    with _translated(), local_file(version) as path:
        answer = _ask(FindPairs(file=_file(version, path), threshold=threshold))
    return _keep(version, Measurement.Kind.NEAR_DUPLICATES, subject, answer)


def _known(version: DatasetVersion, kind: Measurement.Kind, subject: str) -> Measurement | None:
    return version.measurements.filter(kind=kind, subject=subject).first()


def _keep(version: DatasetVersion, kind: Measurement.Kind, subject: str, answer: TokenLengths | FoundPairs) -> Measurement:
    result = answer.model_dump(mode="json", exclude={"type"})
    kept, _ = Measurement.objects.update_or_create(version=version, kind=kind, subject=subject, defaults={"result": result})
    return kept


def _file(version: DatasetVersion, path: Path) -> MeasuredFile:
    return MeasuredFile(
        path=str(path),
        file_name=version.file_name,
        file_format=version.file_format,
        row_format=version.format,
        rows=version.rows,
        characters=int(version.statistics.get("characters", 0)),
    )


@contextmanager
def _translated() -> Iterator[None]:
    """Answer what finding the model raises as the other endpoints do."""
    try:
        yield
    except UnresolvedReference as error:
        problem = Problem(message=error.detail, code=error.error_code, field="model")
        raise UnresolvedReference(error.detail, errors=[problem], code=error.error_code) from error
    except AgentError as error:
        raise _refusal(Refused(error_kind=error.kind, code=error.code, message=error.message, field=error.field)) from error


def _ask(question: CountTokens | FindPairs) -> TokenLengths | FoundPairs:
    """Have ``question`` answered by a process that ends with its answer."""
    if not _turn.acquire(timeout=TURN_SECONDS):
        message = f"another dataset is being measured, and no turn came within {TURN_SECONDS:.0f} s; try again"
        raise Unavailable(message, code="measuring_busy")
    try:
        output = _run(question.model_dump_json().encode())
    finally:
        _turn.release()
    answer = from_measure.validate_json(output)
    if isinstance(answer, Refused):
        raise _refusal(answer)
    return answer


def _run(question: bytes) -> bytes:
    try:
        return ask_process("celery_workers.measure_process", question, seconds=MEASURE_SECONDS)
    except TimeoutError as error:
        message = f"the dataset was not measured within {MEASURE_SECONDS:.0f} s; a pipeline's preprocessing takes any size"
        raise Unavailable(message, code="measuring_too_slow") from error
    except NoAnswer as error:
        raise Unavailable(f"the measuring process ended (status {error.status})", code="measuring_failed") from error


def _refusal(refused: Refused) -> DomainError:
    if refused.error_kind is not ErrorKind.USER:
        return Unavailable(refused.message, code=refused.code)
    problem = Problem(message=refused.message, code=refused.code, field=refused.field or "version")
    return InvalidInput(refused.message, errors=[problem], code=refused.code)
