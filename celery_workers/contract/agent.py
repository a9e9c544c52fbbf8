"""The agent itself: a stateless class with a config, typed ports and ``run``."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Generic, TypeVar, get_args, get_type_hints

from celery_workers.contract.config import AgentConfig
from celery_workers.contract.context import AgentContext
from celery_workers.contract.estimates import Estimate, EstimateContext, JsonObject
from celery_workers.contract.ports import PortSpec, port_specs

ConfigT = TypeVar("ConfigT", bound=AgentConfig)
InputsT = TypeVar("InputsT")
OutputsT = TypeVar("OutputsT")


class Queue(StrEnum):
    """Which workers may run the agent. ``gpu`` runs on the CPU where there is no GPU."""

    CPU = "cpu"
    GPU = "gpu"


class Category(StrEnum):
    """Where the palette lists the agent."""

    DATA = "Data"
    TRAINING = "Training"
    EVALUATION = "Evaluation"
    DELIVERY = "Delivery"


class Agent(ABC, Generic[ConfigT, InputsT, OutputsT]):
    """One kind of pipeline step.

    Subclasses name their config and ports as type arguments and set the class variables. Raise ``version`` when the
    same config and inputs would give another output: it is part of the node cache's key. Heavy imports (torch,
    transformers, pyarrow) belong inside ``run``: the web server imports this module.
    """

    title: ClassVar[str]
    category: ClassVar[Category]
    queue: ClassVar[Queue] = Queue.CPU
    version: ClassVar[int] = 1

    @abstractmethod
    def run(self, ctx: AgentContext, config: ConfigT, inputs: InputsT) -> OutputsT:
        """Do the work; write only under ``ctx.workdir``.

        Raises: AgentError: the kind says whether the platform tries again. Canceled: from ``ctx.check_canceled()``.
        """

    def estimate(
        self,
        ctx: EstimateContext,  # noqa: ARG002
        config: ConfigT,  # noqa: ARG002
        inputs: Mapping[str, Sequence[JsonObject]],  # noqa: ARG002
    ) -> Estimate:
        """Say what ``run`` would need, given the metadata that its inputs will have, by port; by default, nothing is known.

        Raises: UserInputError: it cannot be said, and why.
        """
        return Estimate()


@dataclass(frozen=True, kw_only=True)
class AgentSpec:
    """What the registry knows of one agent: read once, by import, from its module."""

    name: str
    class_name: str
    title: str
    summary: str
    category: Category
    queue: Queue
    version: int
    agent_class: type[Agent[AgentConfig, object, object]]
    config_class: type[AgentConfig]
    inputs_class: type
    outputs_class: type
    inputs: list[PortSpec]
    outputs: list[PortSpec]

    def input(self, name: str) -> PortSpec | None:
        """Return the input port called ``name``, or None."""
        return next((port for port in self.inputs if port.name == name), None)

    def output(self, name: str) -> PortSpec | None:
        """Return the output port called ``name``, or None."""
        return next((port for port in self.outputs if port.name == name), None)


def describe(agent_class: type[Agent[AgentConfig, object, object]], *, name: str) -> AgentSpec:
    """Read everything the platform needs from an agent class.

    Raises: TypeError: the class lacks its type arguments, or a port is not declared as one.
    """
    config_class, inputs_class, outputs_class = _type_arguments(agent_class)
    module = inspect.getmodule(agent_class)
    summary = (inspect.getdoc(module) or inspect.getdoc(agent_class) or "").partition("\n")[0]
    return AgentSpec(
        name=name,
        class_name=agent_class.__name__,
        title=agent_class.title,
        summary=summary,
        category=agent_class.category,
        queue=agent_class.queue,
        version=agent_class.version,
        agent_class=agent_class,
        config_class=config_class,
        inputs_class=inputs_class,
        outputs_class=outputs_class,
        inputs=port_specs(inputs_class),
        outputs=port_specs(outputs_class),
    )


def _type_arguments(agent_class: type[Agent[AgentConfig, object, object]]) -> tuple[type[AgentConfig], type, type]:
    for base in getattr(agent_class, "__orig_bases__", ()):
        arguments = get_args(base)
        if len(arguments) == 3 and all(isinstance(argument, type) for argument in arguments):
            return arguments
    hints = get_type_hints(agent_class.run)
    raise TypeError(f"{agent_class.__name__} must subclass Agent[Config, Inputs, Outputs]; its run takes {hints}")
