"""/metrics: true numbers in Prometheus' format, for members of staff."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from rest_framework.test import APIClient

from pipelines.models import Status, Worker
from pipelines.tests.factories import ArtifactFactory, NodeRunFactory
from platform_site.models import ApiToken

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff_client(user) -> APIClient:
    user.is_staff = True
    user.save()
    _, key = ApiToken.issue(owner=user, name="prometheus", scopes=["read"])
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {key}")
    return client


def read(client: APIClient) -> dict[tuple[str, tuple[str, ...]], float]:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(response.content.decode())
    return {(sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples}


def test_what_waits_runs_and_lives_is_counted(staff_client: APIClient) -> None:
    now = timezone.now()
    NodeRunFactory()
    NodeRunFactory(status=Status.QUEUED, queued_at=now - timedelta(seconds=90), lease_worker="")
    Worker.objects.create(name="a", queue="gpu", slots=3, expires_at=now + timedelta(minutes=1))
    Worker.objects.create(name="b", queue="gpu", slots=9, expires_at=now - timedelta(minutes=1))
    ArtifactFactory(size_bytes=7)
    values = read(staff_client)
    assert values["truetune_node_runs", ("running",)] == 1
    assert values["truetune_runs", ("failed",)] == 0
    assert values["truetune_queue_waiting", ("gpu",)] == 1
    assert 89 < values["truetune_queue_oldest_seconds", ("gpu",)] < 300
    assert values["truetune_worker_slots", ("gpu",)] == 3
    assert values["truetune_worker_slots", ("cpu",)] == 0
    assert values["truetune_artifact_bytes", ()] == 7


def test_an_empty_platform_has_every_metric(staff_client: APIClient) -> None:
    values = read(staff_client)
    assert values["truetune_events", ()] == 0
    assert values["truetune_queue_waiting", ("cpu",)] == 0


def test_only_staff_may_look(api_client, client) -> None:
    assert client.get("/metrics").status_code == 401
    assert api_client.get("/metrics").status_code == 403
