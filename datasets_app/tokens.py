"""A row of a dataset token by token, exactly as the trainer gets it.

The server only finds file and tokenizer; a process of its own makes the tokens with the code that preprocessing runs. What a
pipeline's references mean is asked of ``pipelines.references``, as for a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import ValidationError

from celery_workers.agents.preprocessing import PreprocessingConfig
from celery_workers.contract.errors import AgentError, ErrorKind
from celery_workers.contract.tokens import Load, Look, Refused, Seen
from datasets_app.models import DatasetVersion
from datasets_app.preview import local_file
from datasets_app.token_child import TokenChild
from pipelines.references import UnresolvedReference, find_tokenizer
from platform_site.common.errors import DomainError, InvalidInput, Problem, Unavailable

if TYPE_CHECKING:
    from platform_site.models import User

DEFAULT_MODEL = "bundled:smollm2-135m-instruct"

child = TokenChild()
_QUERY_NAMES = {"base_model": "model"}


def read_options(*, model: str, **options: object) -> PreprocessingConfig:
    """Return the config of preprocessing that ``options`` ask for; what is left out has the agent's default.

    Raises: InvalidInput: an option breaks a rule of it.
    """
    try:
        return PreprocessingConfig.model_validate({"base_model": model, **options})
    except ValidationError as error:
        problems = [_invalid(str(item["loc"][0]) if item["loc"] else "options", str(item["msg"])) for item in error.errors()]
        raise InvalidInput(f"{problems[0].field}: {problems[0].message}", errors=problems) from error


def look_at_row(*, user: User, version: DatasetVersion, row: int, config: PreprocessingConfig, chunk: int = 1) -> Seen:
    """Return the tokens of the row at ``row`` (from 1) of ``version``, and how much of the set is trained.

    ``chunk`` (from 1) says which of the examples of a row that is cut into several; beyond the last it is the last.

    Raises: InvalidInput: no such row, or the model or an option does not fit. UnresolvedReference. Unavailable: the tokens
    cannot be made now. ContentMissing.
    """
    if not 1 <= row <= version.rows:
        problem = _invalid(
            "row", f"row must be from 1 to {version.rows}, the rows of this version, got {row}", "row_out_of_range"
        )
        raise InvalidInput(problem.message, errors=[problem], code=problem.code)
    with _translated(), local_file(version) as path:
        tokenizer = find_tokenizer(config.base_model, user=user)
        load = Load(folder=str(tokenizer.path), bundled=tokenizer.bundled)
        look = Look(
            folder=str(tokenizer.path),
            config=config.model_dump(mode="json"),
            path=str(path),
            file_name=version.file_name,
            file_format=version.file_format,
            sha256=version.sha256,
            rows=version.rows,
            position=row - 1,
            chunk=chunk - 1,
        )
        answer = child.look(load=load, look=look)
    if isinstance(answer, Refused):
        raise _refusal(answer)
    return answer


@contextmanager
def _translated() -> Iterator[None]:
    """Answer what finding the model and asking the process raise as the other endpoints do."""
    try:
        yield
    except UnresolvedReference as error:
        problem = _invalid("model", error.detail, error.error_code)
        raise UnresolvedReference(error.detail, errors=[problem], code=error.error_code) from error
    except AgentError as error:
        raise _refusal(Refused(error_kind=error.kind, code=error.code, message=error.message, field=error.field)) from error


def _refusal(refused: Refused) -> DomainError:
    if refused.error_kind is not ErrorKind.USER:
        return Unavailable(refused.message, code=refused.code)
    problem = _invalid(refused.field or "row", refused.message, refused.code)
    return InvalidInput(refused.message, errors=[problem], code=refused.code)


def _invalid(field: str, message: str, code: str = "invalid") -> Problem:
    return Problem(message=message, code=code, field=_QUERY_NAMES.get(field, field))
