"""Base class of every agent's config, and the field types that refer to things outside the graph."""

from __future__ import annotations

import os
import re
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Number = TypeVar("Number", int, float, str)

_MODEL_REF = re.compile(
    r"""^(?:bundled:[a-z0-9][a-z0-9._-]*
        |local:[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*
        |model:[0-9a-f-]{36}
        |[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?(?:@[A-Za-z0-9._/-]+)?)$""",
    re.VERBOSE,
)
_DATA_REF = re.compile(
    r"""^(?:dataset:[0-9a-f-]{36}(?:@[1-9][0-9]*)?
        |s3://[a-z0-9][a-z0-9.-]*/[^\x00]+
        |example:[a-z0-9][a-z0-9._-]*)$""",
    re.VERBOSE,
)


def _no_parent_folders(value: str) -> str:
    if ".." in value.split("@", maxsplit=1)[0].replace(":", "/").split("/"):
        raise ValueError(f"must not contain '..', got {value!r}")
    return value


def _model_ref(value: str) -> str:
    if not _MODEL_REF.match(_no_parent_folders(value)):
        raise ValueError(
            "must be a Hub id (name or owner/name, optionally @revision), bundled:<name>, local:<name under MODEL_ROOTS>"
            f" or model:<ModelVersion id>, got {value!r}"
        )
    return value


def _data_ref(value: str) -> str:
    if not _DATA_REF.match(_no_parent_folders(value)):
        raise ValueError(f"must be dataset:<id>[@version], s3://bucket/key or example:<name>, got {value!r}")
    return value


BaseModelRef = Annotated[str, AfterValidator(_model_ref), Field(json_schema_extra={"reference": "base_model"})]
DataRef = Annotated[str, AfterValidator(_data_ref), Field(json_schema_extra={"reference": "data"})]


class AgentConfig(BaseModel):
    """Settings of one node. Unknown keys are refused; every field has a default, a range and a description with its unit.

    Schema extras that forms and the engine read: ``reference`` (set by BaseModelRef and DataRef), ``unit``, ``group``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def environment_default(name: str, fallback: Number) -> Number:
    """Return the operator's default from environment variable ``name``, in the type of ``fallback``.

    Raises: ValueError: the variable's text is not of that type; the message names it.
    """
    text = os.environ.get(name)
    if text is None or text == "":
        return fallback
    try:
        return type(fallback)(text)
    except ValueError as error:
        raise ValueError(f"{name} must be {type(fallback).__name__}, got {text!r}") from error
