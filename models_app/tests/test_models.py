"""Rules that the database keeps."""

from __future__ import annotations

import pytest
from django.db import IntegrityError

from models_app.models import ModelVersion
from models_app.tests.factories import BaseVersionFactory, ModelVersionFactory, RegisteredModelFactory

pytestmark = pytest.mark.django_db


def test_only_a_base_may_lack_weights() -> None:
    BaseVersionFactory()

    with pytest.raises(IntegrityError, match="model_version_has_weights"):
        ModelVersionFactory(artifact=None)


def test_a_number_is_given_once_per_model() -> None:
    model = RegisteredModelFactory()
    ModelVersionFactory(model=model, number=1)

    with pytest.raises(IntegrityError, match="model_version_number_unique"):
        ModelVersionFactory(model=model, number=1)


def test_versions_belong_to_the_owner_of_their_model(user, other_user) -> None:
    mine = ModelVersionFactory(model__owner=user)
    ModelVersionFactory(model__owner=other_user)

    assert list(ModelVersion.objects.visible_to(user)) == [mine]
