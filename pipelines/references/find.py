"""Find the references in a config by its schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from celery_workers.contract.agent import AgentSpec
from celery_workers.contract.config import AgentConfig

Schema = Mapping[str, object]


class ReferenceKind(StrEnum):
    """What a reference may name, as the schema extra ``reference`` says it."""

    BASE_MODEL = "base_model"
    DATA = "data"


@dataclass(frozen=True, kw_only=True)
class FoundReference:
    """A reference as it stands in a config; ``field`` is the dotted path to it."""

    field: str
    value: str
    kind: ReferenceKind


def find_references(spec: AgentSpec, config: Mapping[str, object]) -> list[FoundReference]:
    """Return every reference of a complete config, in the order of its fields."""
    schema = _schema(spec.config_class)
    return list(_walk(schema, config, path="", root=schema))


@cache
def _schema(config_class: type[AgentConfig]) -> Schema:
    return config_class.model_json_schema()


def _walk(schema: object, value: object, *, path: str, root: Schema) -> Iterator[FoundReference]:
    if not isinstance(schema, Mapping):
        return
    if isinstance(reference := schema.get("$ref"), str):
        yield from _walk(_definition(root, reference), value, path=path, root=root)
    if isinstance(value, str) and "reference" in schema:
        yield FoundReference(field=path, value=value, kind=ReferenceKind(str(schema["reference"])))
    for choice in ("anyOf", "oneOf", "allOf"):
        for option in _list(schema.get(choice)):
            yield from _walk(option, value, path=path, root=root)
    if isinstance(value, Mapping):
        properties = schema.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        for key, item in value.items():
            inner = known.get(key, schema.get("additionalProperties"))
            yield from _walk(inner, item, path=f"{path}.{key}" if path else str(key), root=root)
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(schema.get("items"), item, path=f"{path}.{index}", root=root)


def _definition(root: Schema, reference: str) -> object:
    found: object = root
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
