"""Every page of Django admin opens for an operator, and none lets history be edited."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.urls import reverse

from pipelines.models import Checkpoint, NodeRun, Worker
from pipelines.tests import scenes
from platform_site.common.admin import ReadOnlyAdmin
from platform_site.models import ApiToken, User

pytestmark = pytest.mark.django_db

IMMUTABLE = [model for model, page in admin.site._registry.items() if isinstance(page, ReadOnlyAdmin)]


@pytest.fixture
def operator(client, db):
    user = User.objects.create_superuser("operator", password="a long enough password")
    client.force_login(user)
    return client


@pytest.fixture
def rows(user, tmp_path):
    """Rows of every model that the admin shows."""
    runs = scenes.every_state(user, tmp_path)
    attempt = NodeRun.objects.filter(run=runs["running"], node="training").get()
    Checkpoint.objects.create(node_run=attempt, step=100, uri="x", sha256="0" * 64, size_bytes=1)
    Worker.objects.create(name="gpu@worker-1", queue="gpu", expires_at=attempt.lease_expires_at)
    ApiToken.issue(owner=user, name="laptop", scopes=["read"])
    return runs


def address(model: type, view: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{view}", args=args)


@pytest.mark.parametrize("model", admin.site._registry, ids=lambda model: model._meta.label)
def test_list_search_and_row_open(operator, rows, model):
    assert operator.get(address(model, "changelist")).status_code == 200
    if admin.site._registry[model].search_fields:
        assert operator.get(address(model, "changelist"), {"q": "orders"}).status_code == 200
    row = model.objects.first()
    if row is not None:
        assert operator.get(address(model, "change", row.pk)).status_code == 200


@pytest.mark.parametrize("model", IMMUTABLE, ids=lambda model: model._meta.label)
def test_history_cannot_be_added_changed_or_deleted(operator, rows, model):
    row = model.objects.first()
    assert operator.get(address(model, "add")).status_code == 403
    if row is not None:
        assert operator.post(address(model, "change", row.pk), {}).status_code == 403
        assert operator.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
        assert model.objects.filter(pk=row.pk).exists()


def test_a_person_without_rights_is_kept_out(client, user):
    client.force_login(user)
    assert client.get("/admin/").status_code == 302


def test_the_index_leads_to_leases_and_back_to_the_site(operator):
    html = operator.get("/admin/").content.decode()
    assert "?lease=held" in html
    assert "Back to the site" in html


def test_a_tokens_key_is_nowhere_and_it_can_be_revoked(operator, user):
    token, key = ApiToken.issue(owner=user, name="laptop", scopes=["read"])
    listed = operator.get(address(ApiToken, "changelist")).content.decode()
    shown = operator.get(address(ApiToken, "change", token.pk)).content.decode()
    for secret in (key, token.digest):
        assert secret not in listed + shown
    operator.post(address(ApiToken, "changelist"), {"action": "revoke", "_selected_action": [token.pk]})
    token.refresh_from_db()
    assert token.revoked_at is not None


def test_who_may_only_look_has_no_actions(client, user):
    from django.contrib.auth.models import Permission

    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_apitoken"))
    token, _ = ApiToken.issue(owner=user, name="laptop", scopes=["read"])
    client.force_login(viewer)
    client.post(address(ApiToken, "changelist"), {"action": "revoke", "_selected_action": [token.pk]})
    token.refresh_from_db()
    assert token.revoked_at is None
