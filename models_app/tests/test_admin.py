"""The registry in Django admin: to be looked at, not to be edited."""

from __future__ import annotations

import pytest
from django.test import Client

from models_app.models import ModelVersion
from models_app.tests.registry import Registry
from platform_site.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root", password="a long password"))
    return client


@pytest.mark.parametrize("model", ["registeredmodel", "modelversion", "evaluation"])
def test_lists_open_and_search(operator: Client, registry: Registry, model: str) -> None:
    response = operator.get(f"/admin/models_app/{model}/", {"q": "orders"})

    assert response.status_code == 200
    assert "orders" in response.content.decode()


def test_a_version_can_be_read_and_not_changed(operator: Client, registry: Registry) -> None:
    url = f"/admin/models_app/modelversion/{registry.adapter.pk}/change/"

    assert registry.adapter.sha256 in operator.get(url).content.decode()
    assert operator.post(url, {"base_model": "other"}).status_code == 403
    assert ModelVersion.objects.get(pk=registry.adapter.pk).base_model == registry.adapter.base_model


@pytest.mark.parametrize("path", ["modelversion/add/", "registeredmodel/add/", "evaluation/add/"])
def test_nothing_can_be_added(operator: Client, path: str) -> None:
    assert operator.get(f"/admin/models_app/{path}").status_code == 403


@pytest.mark.parametrize("kind", ["base", "adapter", "merged"])
def test_every_detail_page_opens(operator: Client, registry: Registry, kind: str) -> None:
    version: ModelVersion = getattr(registry, kind)

    assert operator.get(f"/admin/models_app/modelversion/{version.pk}/change/").status_code == 200
    assert operator.get(f"/admin/models_app/registeredmodel/{version.model.pk}/change/").status_code == 200
    for evaluation in version.evaluations.all():
        assert operator.get(f"/admin/models_app/evaluation/{evaluation.pk}/change/").status_code == 200
