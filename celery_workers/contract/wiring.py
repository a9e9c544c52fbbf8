"""Between the wire and the agent: port values become its inputs, its outputs become port values.

Used by the agent process and by tests, so that a test runs an agent under the very same checks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from celery_workers.contract.agent import AgentSpec
from celery_workers.contract.config import AgentConfig
from celery_workers.contract.errors import BugError, UserInputError
from celery_workers.contract.messages import PortValue
from celery_workers.contract.ports import Port, PortSpec


def read_config(spec: AgentSpec, config: Mapping[str, object]) -> AgentConfig:
    """Validate ``config`` by the agent's own class.

    Raises: UserInputError: a field is unknown or out of range; ``field`` names the first, the message all of them.
    """
    try:
        return spec.config_class.model_validate(dict(config))
    except ValidationError as error:
        problems = [(".".join(map(str, item["loc"])), item["msg"]) for item in error.errors(include_url=False)]
        message = "; ".join(f"{field}: {problem}" if field else problem for field, problem in problems)
        raise UserInputError(
            message,
            code="invalid_config",
            field=problems[0][0] or None,
            evidence={"problems": [list(item) for item in problems]},
        ) from error


def build_inputs(spec: AgentSpec, inputs: Mapping[str, Sequence[PortValue]]) -> object:
    """Fill the agent's input dataclass.

    Raises: BugError: the values do not fit the ports; the graph should have been refused.
    """
    unknown = sorted(set(inputs) - {port.name for port in spec.inputs})
    if unknown:
        raise BugError(f"{spec.class_name} has no input {unknown[0]!r}", code="invalid_request")
    return spec.inputs_class(**{port.name: _input(spec, port, inputs.get(port.name, ())) for port in spec.inputs})


def _input(spec: AgentSpec, port: PortSpec, values: Sequence[PortValue]) -> Port | list[Port] | None:
    where = f"{spec.class_name}.{port.name}"
    if not values:
        if port.is_required:
            raise BugError(f"{where} is required, and nothing was given", code="invalid_request")
        return None
    for value in values:
        if value.kind != port.kind:
            raise BugError(f"{where} takes kind {port.kind}, got {value.kind}", code="invalid_request")
    made = [port.port_class(path=Path(value.path), metadata=value.metadata, sha256=value.sha256) for value in values]
    if port.takes_many:
        return list(made)
    if len(made) > 1:
        raise BugError(f"{where} takes one artifact, got {len(made)}", code="invalid_request")
    return made[0]


def read_outputs(spec: AgentSpec, outputs: object, *, workdir: Path) -> dict[str, list[PortValue]]:
    """Check what ``run`` returned and put it on the wire; absent optional ports are left out.

    Raises: BugError: not the declared class, a wrong kind, a missing required port, or a path that does not exist or
        lies outside ``workdir``.
    """
    if not dataclasses.is_dataclass(outputs) or not isinstance(outputs, spec.outputs_class):
        raise BugError(
            f"{spec.class_name}.run must return {spec.outputs_class.__name__}, got {type(outputs).__name__}",
            code="invalid_output",
        )
    values = {port.name: _output(spec, port, getattr(outputs, port.name), workdir=workdir.resolve()) for port in spec.outputs}
    return {name: items for name, items in values.items() if items}


def _output(spec: AgentSpec, port: PortSpec, value: object, *, workdir: Path) -> list[PortValue]:
    where = f"{spec.class_name}.{port.name}"
    if value is None:
        if port.is_required:
            raise BugError(f"{where} is a required output, got None", code="invalid_output")
        return []
    items = value if port.takes_many and isinstance(value, list | tuple) else [value]
    return [_port_value(where, port, item, workdir=workdir) for item in items]


def _port_value(where: str, port: PortSpec, item: object, *, workdir: Path) -> PortValue:
    if not isinstance(item, Port) or item.kind != port.kind:
        raise BugError(f"{where} must be {port.port_class.__name__}, got {type(item).__name__}", code="invalid_output")
    path = item.path.resolve()
    if not path.exists():
        raise BugError(f"{where} names {item.path}, which does not exist", code="invalid_output")
    if not path.is_relative_to(workdir) or path == workdir:
        raise BugError(f"{where} must lie below the workdir, got {item.path}", code="invalid_output")
    return PortValue(kind=item.kind.value, path=str(path), metadata=item.metadata)
