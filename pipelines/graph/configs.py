"""Check a node's config against its agent, and say what is wrong in the words of the form."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from celery_workers.contract.agent import AgentSpec
from pipelines.graph.structure import GraphNode, JsonObject
from platform_site.common.errors import Problem

# pydantic's error type -> the rule in our words; the names in braces are in the error's context
_RULES: dict[str, str] = {
    "greater_than": "must be > {gt}",
    "greater_than_equal": "must be >= {ge}",
    "less_than": "must be < {lt}",
    "less_than_equal": "must be <= {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "literal_error": "must be one of {expected}",
    "enum": "must be one of {expected}",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "model_type": "must be an object",
    "none_required": "must be null",
}


def config_problems(spec: AgentSpec, node: GraphNode) -> list[Problem]:
    """Return every broken rule of the node's config, each with its field, rule, limit and value."""
    try:
        spec.config_class.model_validate(node.config)
    except ValidationError as error:
        return [_problem(spec, node.name, item) for item in error.errors(include_url=False)]
    return []


def complete_config(spec: AgentSpec, config: Mapping[str, object]) -> JsonObject:
    """Return the config with every default filled in, as JSON.

    Raises: pydantic.ValidationError: the config is not valid.
    """
    return spec.config_class.model_validate(dict(config)).model_dump(mode="json")


def _problem(spec: AgentSpec, node: str, item: ErrorDetails) -> Problem:
    field = ".".join(str(part) for part in item["loc"]) or None
    if item["type"] == "missing":
        return Problem(message="is required", code="required", node=node, field=field)
    if item["type"] == "extra_forbidden":
        return Problem(message=_unknown_field(spec, str(item["loc"][-1])), code="unknown_field", node=node, field=field)
    if item["type"] in ("value_error", "assertion_error"):
        # the config's own validators name their rule, limit and value
        message = str(item.get("ctx", {}).get("error", item["msg"]))
        return Problem(message=message, code="invalid_config", node=node, field=field)
    rule = _RULES.get(item["type"])
    context = {key: _number(value) for key, value in item.get("ctx", {}).items()}
    message = rule.format(**context) if rule else item["msg"][:1].lower() + item["msg"][1:]
    return Problem(message=f"{message}, got {_short(item['input'])}", code="invalid_config", node=node, field=field)


def _unknown_field(spec: AgentSpec, name: str) -> str:
    near = difflib.get_close_matches(name, spec.config_class.model_fields, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{spec.class_name} has no setting {_short(name)}{hint}"


def _number(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
