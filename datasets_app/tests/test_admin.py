from __future__ import annotations

import pytest
from django.urls import reverse

from datasets_app.models import DatasetVersion
from datasets_app.tests.factories import DatasetVersionFactory


@pytest.fixture
def version(db) -> DatasetVersion:
    return DatasetVersionFactory()


@pytest.mark.parametrize("model", ["dataset", "datasetversion"])
def test_rows_can_be_looked_at_and_not_changed(admin_client, version: DatasetVersion, model: str) -> None:
    key = version.pk if model == "datasetversion" else version.dataset_id
    page = reverse(f"admin:datasets_app_{model}_change", args=[key])

    assert str(version.dataset.name) in admin_client.get(reverse(f"admin:datasets_app_{model}_changelist")).content.decode()
    assert admin_client.get(page).status_code == 200
    assert admin_client.post(page, {}).status_code == 403
    assert admin_client.get(reverse(f"admin:datasets_app_{model}_add")).status_code == 403
    assert admin_client.get(reverse(f"admin:datasets_app_{model}_delete", args=[key])).status_code == 403


def test_versions_are_found_by_name_and_digest(admin_client, version: DatasetVersion) -> None:
    for text in (version.dataset.name, version.sha256):
        page = admin_client.get(reverse("admin:datasets_app_datasetversion_changelist"), {"q": text})
        assert str(version.pk) in page.content.decode()
