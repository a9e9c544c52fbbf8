"""Rows for tests of datasets."""

from __future__ import annotations

import factory

from datasets_app.models import Dataset, DatasetVersion
from platform_site.models import User


class OwnerFactory(factory.django.DjangoModelFactory):
    """A person."""

    class Meta:
        model = User

    username = factory.Sequence(lambda number: f"owner{number}")


class DatasetFactory(factory.django.DjangoModelFactory):
    """A name without versions."""

    class Meta:
        model = Dataset

    owner = factory.SubFactory(OwnerFactory)
    name = factory.Sequence(lambda number: f"dataset {number}")


class DatasetVersionFactory(factory.django.DjangoModelFactory):
    """A version whose file is not in the store."""

    class Meta:
        model = DatasetVersion

    dataset = factory.SubFactory(DatasetFactory)
    number = 1
    file_name = "rows.jsonl"
    file_format = "jsonl"
    format = "text"
    uri = factory.LazyAttribute(lambda version: f"content/{version.sha256[:2]}/{version.sha256}")
    sha256 = factory.Sequence(lambda number: f"{number:064x}")
    size_bytes = 100
    rows = 3
    columns = [{"name": "text", "type": "text"}]
    report = factory.LazyFunction(lambda: {"kind": "validation", "title": "Validation", "summary": {"rows": 3, "fit_rows": 3}})
