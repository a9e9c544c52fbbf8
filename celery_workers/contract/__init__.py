"""What an agent is, and what passes between it and the platform.

An agent is one file under ``celery_workers/agents/``::

    class CountConfig(AgentConfig):
        minimum_rows: int = Field(1, ge=0, description="Fewest rows to accept.")

    @dataclass(frozen=True, kw_only=True)
    class CountInputs:
        dataset: Dataset

    @dataclass(frozen=True, kw_only=True)
    class CountOutputs:
        report: Report

    class CountAgent(Agent[CountConfig, CountInputs, CountOutputs]):
        title = "Count"
        category = Category.DATA

        def run(self, ctx, config, inputs): ...

Nothing here, and nothing below this package, imports Django, Celery or Channels.
"""

from celery_workers.contract.agent import Agent, AgentSpec, Category, Queue
from celery_workers.contract.config import AgentConfig, BaseModelRef, DataRef, environment_default
from celery_workers.contract.context import AgentContext, ReportDocument
from celery_workers.contract.errors import (
    AgentError,
    BugError,
    Canceled,
    ErrorKind,
    InfrastructureError,
    ResourceError,
    UserInputError,
)
from celery_workers.contract.estimates import Estimate, EstimateContext, Machine
from celery_workers.contract.ports import Dataset, Examples, File, Model, Port, PortKind, PortSpec, Report

__all__ = [
    "Agent",
    "AgentConfig",
    "AgentContext",
    "AgentError",
    "AgentSpec",
    "BaseModelRef",
    "BugError",
    "Canceled",
    "Category",
    "DataRef",
    "Dataset",
    "ErrorKind",
    "Estimate",
    "EstimateContext",
    "Examples",
    "File",
    "InfrastructureError",
    "Machine",
    "Model",
    "Port",
    "PortKind",
    "PortSpec",
    "Queue",
    "Report",
    "ReportDocument",
    "ResourceError",
    "UserInputError",
    "environment_default",
]
