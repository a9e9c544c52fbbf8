"""Rows for tests of the registry."""

from __future__ import annotations

import factory

from models_app.models import Evaluation, ModelVersion, RegisteredModel
from pipelines.models import Artifact
from pipelines.tests.factories import ArtifactFactory, UserFactory

BASE = "bundled:smollm2-135m-instruct"


class ModelArtifactFactory(ArtifactFactory):
    """The row of an adapter's folder; its content is not in the store."""

    kind = Artifact.Kind.MODEL
    name = "model"
    port = "model"
    is_folder = True
    metadata = factory.LazyFunction(lambda: {"model_kind": "adapter", "base_model": BASE})


class RegisteredModelFactory(factory.django.DjangoModelFactory):
    """A name without versions."""

    class Meta:
        model = RegisteredModel

    owner = factory.SubFactory(UserFactory)
    name = factory.Sequence(lambda number: f"model {number}")


class ModelVersionFactory(factory.django.DjangoModelFactory):
    """A registered adapter."""

    class Meta:
        model = ModelVersion

    model = factory.SubFactory(RegisteredModelFactory)
    number = factory.Sequence(lambda number: number + 1)
    kind = ModelVersion.Kind.ADAPTER
    base_model = BASE
    artifact = factory.SubFactory(ModelArtifactFactory, owner=factory.SelfAttribute("..model.owner"))
    sha256 = factory.LazyAttribute(lambda version: version.artifact.sha256 if version.artifact else "")


class BaseVersionFactory(ModelVersionFactory):
    """A registered base."""

    kind = ModelVersion.Kind.BASE
    artifact = None
    sha256 = "b" * 64


class EvaluationFactory(factory.django.DjangoModelFactory):
    """Scores on 100 rows."""

    class Meta:
        model = Evaluation

    owner = factory.SelfAttribute("model_version.model.owner")
    model_version = factory.SubFactory(ModelVersionFactory)
    report = factory.SubFactory(ArtifactFactory, owner=factory.SelfAttribute("..owner"), kind=Artifact.Kind.REPORT)
    examples_sha256 = "e" * 64
    scores = factory.LazyFunction(lambda: {"loss": 0.125, "perplexity": 1.133, "exact_match": 0.97, "rows": 100})
