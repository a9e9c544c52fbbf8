"""The schema describes the whole API without a warning, and every endpoint is guarded."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import URLPattern, get_resolver
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from rest_framework.test import APIClient

API = "/api/v1"


@pytest.fixture(scope="module")
def schema() -> dict:
    GENERATOR_STATS.reset()
    made = SchemaGenerator().get_schema(request=None, public=True)
    assert not GENERATOR_STATS._error_cache, list(GENERATOR_STATS._error_cache)
    assert not GENERATOR_STATS._warn_cache, list(GENERATOR_STATS._warn_cache)
    return made


def operations(schema: dict) -> list[tuple[str, str, dict]]:
    return [
        (path, method, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
        if method in ("get", "post", "put", "patch", "delete")
    ]


def test_the_schema_is_valid(schema):
    validate_schema(schema)


def test_every_operation_has_a_tidy_name_and_a_sentence(schema):
    names = [operation["operationId"] for _, _, operation in operations(schema)]

    assert len(names) == len(set(names))
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)+", name)] == []
    assert [name for path, _, operation in operations(schema) if not operation.get("description") for name in [path]] == []


def test_the_promised_paths_are_there(schema):
    promised = {
        "/jobs", "/jobs/{id}", "/jobs/{id}/progress", "/jobs/{id}/metrics", "/jobs/{id}/retry", "/artifacts/{id}",
        "/artifacts/{id}/download", "/agents", "/logs/stream/{run_id}", "/logs/history/{run_id}", "/auth/tokens",
        "/auth/tokens/{id}", "/datasets", "/datasets/upload", "/datasets/{id}", "/datasets/{id}/preview",
        "/datasets/{id}/report", "/models", "/models/{id}", "/models/{id}/download", "/models/{id}/card",
    }  # fmt: skip

    assert {f"{API}{path}" for path in promised} <= set(schema["paths"])


def test_starting_a_job_has_examples(schema):
    content = schema["paths"][f"{API}/jobs"]["post"]["requestBody"]["content"]["application/json"]

    assert {"AGraph", "AStoredPipeline"} <= set(content["examples"])


def test_tokens_and_sessions_are_described(schema):
    assert {"token", "session"} <= set(schema["components"]["securitySchemes"])


def _api_paths(patterns, prefix: str = "") -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        found += [path] if isinstance(pattern, URLPattern) else _api_paths(pattern.url_patterns, path)
    return found


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_nobody_gets_in_anywhere(method):
    example = "00000000-0000-0000-0000-000000000000"
    for pattern in _api_paths(get_resolver().url_patterns):
        if pattern.startswith("api/v1/"):
            path = "/" + re.sub(r"<\w+:\w+>", example, re.sub(r"<int:\w+>", "1", pattern))
            answer = getattr(APIClient(), method)(path)
            assert answer.status_code == 401, f"{method} {path} answered {answer.status_code}"
            assert set(answer.json()) == {"code", "detail", "errors"}


@pytest.mark.django_db
def test_the_schema_and_its_page_are_served():
    client = Client()
    page = client.get("/docs")
    script = client.get("/docs?script=")

    assert client.get("/api/schema").status_code == 200
    assert page.status_code == 200
    assert "<script>" not in page.content.decode()
    assert script["Content-Type"].startswith("application/javascript")
