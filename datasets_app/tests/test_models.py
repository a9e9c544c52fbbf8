from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction

from datasets_app.models import Dataset
from datasets_app.tests.factories import DatasetFactory, DatasetVersionFactory

pytestmark = pytest.mark.django_db


def test_a_version_never_changes() -> None:
    version = DatasetVersionFactory()
    version.rows = 99

    with pytest.raises(TypeError, match="immutable"):
        version.save()


def test_a_number_is_given_once() -> None:
    version = DatasetVersionFactory()

    with pytest.raises(IntegrityError), transaction.atomic():
        DatasetVersionFactory(dataset=version.dataset, number=version.number)


def test_the_latest_version_has_the_highest_number() -> None:
    dataset = DatasetFactory()
    assert dataset.latest_version is None
    DatasetVersionFactory(dataset=dataset, number=2)
    DatasetVersionFactory(dataset=dataset, number=1)

    assert dataset.latest_version.number == 2


def test_rows_reach_their_owner_only(user, other_user) -> None:
    DatasetVersionFactory(dataset__owner=user)

    assert Dataset.objects.visible_to(user).count() == 1
    assert not Dataset.objects.visible_to(other_user).exists()
