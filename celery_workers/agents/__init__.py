"""The agents, one file each, found by import. ``registry()`` is all that the rest of the platform reads."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache

from celery_workers.contract.agent import Agent, AgentSpec, describe


@cache
def registry() -> dict[str, AgentSpec]:
    """Return every agent by its class name (``TrainingAgent``), in the order of module names.

    Raises: TypeError: a module of this package does not hold exactly one agent.
    """
    specs = [_load(module.name) for module in pkgutil.iter_modules(__path__) if not module.ispkg]
    return {spec.class_name: spec for spec in specs}


def _load(name: str) -> AgentSpec:
    module = importlib.import_module(f"{__name__}.{name}")
    found = [
        item
        for item in vars(module).values()
        if inspect.isclass(item) and issubclass(item, Agent) and item.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} must define exactly one Agent, found {[item.__name__ for item in found]}")
    return describe(found[0], name=name)
