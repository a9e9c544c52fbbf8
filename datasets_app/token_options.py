"""The options of preprocessing that matter for one row: read from the agent's own schema, for the API and for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from celery_workers.agents.preprocessing import PreprocessingConfig

OF_THE_SET = frozenset({
    "base_model", "dedup", "near_dedup", "near_dedup_threshold", "evaluation_match", "eval_fraction", "split_column",
    "group_column", "seed",
})  # fmt: skip
"""Options about rows beside others, which one row says nothing of; and the model, which is a parameter of its own."""

MAX_LENGTHS = {"custom_template": 20_000}
"""Characters that go into an address, where the config would take more."""

Kind = Literal["choice", "choices", "texts", "switch", "number", "text", "long_text"]


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option: its name in a config, what it takes, and its default. ``minimum`` and ``maximum`` bound numbers."""

    name: str
    kind: Kind
    default: object
    description: str
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    max_length: int | None = None

    @property
    def label(self) -> str:
        """What the page calls it."""
        return self.name.replace("_", " ").capitalize()


@cache
def options() -> tuple[Option, ...]:
    """Return the options in the order of the config."""
    properties: Mapping[str, Mapping[str, object]] = PreprocessingConfig.model_json_schema()["properties"]
    return tuple(_option(name, schema) for name, schema in properties.items() if name not in OF_THE_SET)


def _option(name: str, schema: Mapping[str, object]) -> Option:
    given = next((item for item in _list(schema.get("anyOf")) if item.get("type") != "null"), schema)
    items = given.get("items")
    choices = _texts(given.get("enum")) or (_texts(items.get("enum")) if isinstance(items, Mapping) else ())
    max_length = MAX_LENGTHS.get(name, given.get("maxLength"))
    return Option(
        name=name,
        kind=_kind(given, is_choice=bool(choices), max_length=max_length),
        default=schema.get("default", [] if given.get("type") == "array" else None),
        description=str(schema.get("description", "")),
        choices=choices,
        minimum=_number(given.get("minimum")),
        maximum=_number(given.get("maximum")),
        max_length=_number(max_length),
    )


def _kind(schema: Mapping[str, object], *, is_choice: bool, max_length: object) -> Kind:
    match schema.get("type"):
        case "array":
            return "choices" if is_choice else "texts"
        case "boolean":
            return "switch"
        case "integer":
            return "number"
        case _ if is_choice:
            return "choice"
        case _:
            return "long_text" if isinstance(max_length, int) and max_length > 1000 else "text"


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _list(value: object) -> list[Mapping[str, object]]:
    return value if isinstance(value, list) else []
