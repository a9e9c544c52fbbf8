"""Rows for tests of pipelines, runs and what they leave behind."""

from __future__ import annotations

import factory
from django.utils import timezone

from pipelines.models import Artifact, NodeRun, PipelineVersion, Run, Status
from platform_site.models import User

GRAPH = {
    "nodes": [
        {"agent_name": "dataset", "agent_class": "DatasetAgent", "config": {}},
        {"agent_name": "training", "agent_class": "TrainingAgent", "config": {}},
    ],
    "edges": [{"from_agent": "dataset", "to_agent": "training"}],
}


class UserFactory(factory.django.DjangoModelFactory):
    """A person."""

    class Meta:
        model = User

    username = factory.Sequence(lambda number: f"person{number}")


class PipelineVersionFactory(factory.django.DjangoModelFactory):
    """A frozen graph of two nodes, posted without a pipeline."""

    class Meta:
        model = PipelineVersion

    owner = factory.SubFactory(UserFactory)
    graph = GRAPH
    sha256 = factory.Sequence(lambda number: f"{number:064x}")


class RunFactory(factory.django.DjangoModelFactory):
    """A running run."""

    class Meta:
        model = Run

    owner = factory.SubFactory(UserFactory)
    version = factory.SubFactory(PipelineVersionFactory, owner=factory.SelfAttribute("..owner"))
    status = Status.RUNNING
    started_at = factory.LazyFunction(timezone.now)


class NodeRunFactory(factory.django.DjangoModelFactory):
    """An attempt of the training node, held by a worker."""

    class Meta:
        model = NodeRun

    run = factory.SubFactory(RunFactory)
    node = "training"
    agent = "TrainingAgent"
    queue = "gpu"
    status = Status.RUNNING
    lease_worker = "worker-1"
    started_at = factory.LazyFunction(timezone.now)


class ArtifactFactory(factory.django.DjangoModelFactory):
    """A file's row; its content is not in the store."""

    class Meta:
        model = Artifact

    owner = factory.SubFactory(UserFactory)
    kind = Artifact.Kind.FILE
    name = "notes.txt"
    uri = factory.LazyAttribute(lambda artifact: f"content/{artifact.sha256[:2]}/{artifact.sha256}")
    sha256 = factory.Sequence(lambda number: f"{number:064x}")
    size_bytes = 5
