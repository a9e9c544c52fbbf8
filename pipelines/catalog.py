"""The agents as the platform offers them: read once from the registry, shown by ``GET /agents``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TypedDict

from celery_workers.agents import registry
from celery_workers.contract.agent import AgentSpec
from celery_workers.contract.ports import PortSpec

JsonObject = dict[str, object]


class PortEntry(TypedDict):
    """One port of the catalogue."""

    name: str
    kind: str
    required: bool
    many: bool


class PortsEntry(TypedDict):
    """The two sides of an agent."""

    inputs: list[PortEntry]
    outputs: list[PortEntry]


# The functional form, because the key of the class's name is a keyword.
AgentEntry = TypedDict(
    "AgentEntry",
    {
        "name": str,
        "class": str,
        "title": str,
        "summary": str,
        "category": str,
        "queue": str,
        "version": int,
        "ports": PortsEntry,
        "config_schema": JsonObject,
        "defaults": JsonObject,
    },
)


def agents() -> dict[str, AgentSpec]:
    """Return every agent by class name.

    Raises: TypeError: a module of ``celery_workers.agents`` is not one agent.
    """
    return registry()


@cache
def catalogue() -> list[AgentEntry]:
    """Return every agent with its ports, the JSON Schema of its config and the defaults, in the order of the registry."""
    return [describe_agent(spec) for spec in agents().values()]


def describe_agent(spec: AgentSpec) -> AgentEntry:
    """Return one entry of the catalogue. ``defaults`` leaves out the settings that a user must give."""
    return {
        "name": spec.name,
        "class": spec.class_name,
        "title": spec.title,
        "summary": spec.summary,
        "category": spec.category.value,
        "queue": spec.queue.value,
        "version": spec.version,
        "ports": {"inputs": _ports(spec.inputs), "outputs": _ports(spec.outputs)},
        "config_schema": spec.config_class.model_json_schema(),
        "defaults": spec.config_class.model_construct().model_dump(mode="json"),
    }


def _ports(ports: Sequence[PortSpec]) -> list[PortEntry]:
    return [
        {"name": port.name, "kind": port.kind.value, "required": port.is_required, "many": port.takes_many} for port in ports
    ]
