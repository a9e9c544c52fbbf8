"""/health says alive; /ready says which part does not work."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from pipelines.models import Worker
from platform_site import health
from platform_site.embedded.ports import free_port

pytestmark = pytest.mark.django_db


@pytest.fixture
def workers():
    soon = timezone.now() + timedelta(minutes=1)
    for queue in ("cpu", "gpu"):
        Worker.objects.create(name=f"{queue}@test", queue=queue, expires_at=soon)


@pytest.fixture(autouse=True)
def fresh_store_check(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(health.CHECKS, "store", health.StoreCheck())


def test_health_answers_without_asking_anything(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        response = client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})


def test_ready_when_every_part_works(client, workers):
    response = client.get("/ready")
    assert response.json() == {
        "status": "ready",
        "checks": {"database": "ok", "redis": "ok", "store": "ok", "workers": "ok"},
    }
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]


def test_ready_leaves_nothing_in_the_store(client, workers, settings):
    client.get("/ready")
    folder = Path(settings.STORAGES["default"]["OPTIONS"]["location"]) / "health"
    assert list(folder.iterdir()) == []


def test_queue_without_a_live_worker_is_named(client, workers):
    Worker.objects.filter(queue="gpu").update(expires_at=timezone.now() - timedelta(seconds=1))
    response = client.get("/ready")
    assert response.status_code == 503
    assert response.json()["checks"]["workers"] == "no live worker for: gpu"


def test_redis_that_is_away_is_named(client, workers, settings):
    settings.REDIS_URL = f"redis://:secret@127.0.0.1:{free_port()}/0"
    response = client.get("/ready")
    assert response.status_code == 503
    checks = response.json()["checks"]
    assert checks["redis"] == "cannot be reached (ConnectionError)"
    assert checks["database"] == checks["store"] == "ok"
    assert "secret" not in response.content.decode()


def test_store_that_cannot_be_written_is_named(client, workers, settings, tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "file")},
        },
    }
    response = client.get("/ready")
    assert response.status_code == 503
    assert response.json()["checks"]["store"].startswith("cannot be reached (")


def test_ready_writes_and_reads_s3(client, workers, s3_storage):
    assert client.get("/ready").json()["checks"]["store"] == "ok"
    assert "Contents" not in s3_storage.client().list_objects_v2(Bucket=s3_storage.bucket, Prefix="health/")
