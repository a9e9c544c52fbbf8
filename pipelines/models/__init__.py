"""Pipelines, their runs, and what the runs leave behind."""

from pipelines.models.artifact import Artifact, Checkpoint, NodeRunOutput
from pipelines.models.event import Event
from pipelines.models.pipeline import Pipeline, PipelineVersion
from pipelines.models.run import ErrorKind, NodeRun, Run, Status
from pipelines.models.tracking import TrackedNode
from pipelines.models.worker import Worker

__all__ = [
    "Artifact",
    "Checkpoint",
    "ErrorKind",
    "Event",
    "NodeRun",
    "NodeRunOutput",
    "Pipeline",
    "PipelineVersion",
    "Run",
    "Status",
    "TrackedNode",
    "Worker",
]
