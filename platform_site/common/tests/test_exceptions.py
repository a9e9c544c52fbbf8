"""Whatever goes wrong, the answer has one shape."""

from __future__ import annotations

import errno

import psycopg
import pytest
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError, connection
from rest_framework import serializers
from rest_framework.test import APIClient

from pipelines.models import Run
from platform_site.common.errors import Conflict, InvalidGraph, Problem, StorageFull, TooLarge

pytestmark = pytest.mark.django_db


def shape_of(answer) -> tuple[int, str]:
    body = answer.json()
    assert set(body) == {"code", "detail", "errors"}
    assert isinstance(body["detail"], str)
    assert body["detail"]
    for problem in body["errors"]:
        assert set(problem) == {"message", "code", "node", "field"}
    return answer.status_code, body["code"]


class TestEndpoints:
    @pytest.mark.parametrize(
        ("method", "path", "expected"),
        [
            ("get", "/api/v1/jobs/5d0c1f5e-8a3b-4c55-9d6e-2f1f0a7b9c11", (404, "not_found")),
            ("get", "/api/v1/nothing", (404, "not_found")),
            ("get", "/api/v1/jobs/", (404, "not_found")),
            ("put", "/api/v1/jobs", (405, "method_not_allowed")),
            ("get", "/api/v1/jobs?cursor=nonsense", (404, "not_found")),
            ("get", "/api/v1/jobs/%00", (404, "not_found")),
            ("get", "/api/v1/logs/history/a%20b", (404, "not_found")),
            ("get", "/api/v1/jobs?search=%00", (400, "invalid_input")),
        ],
    )
    def test_wrong_addresses(self, api_client, method, path, expected):
        assert shape_of(getattr(api_client, method)(path)) == expected

    @pytest.mark.parametrize("body", [b"{", b"[1, 2", b"\xff\xfe", b'{"nodes": NaN}', b"[" * 100_000])
    def test_malformed_json(self, api_client, body):
        assert shape_of(api_client.post("/api/v1/jobs", body, content_type="application/json")) == (400, "parse_error")

    @pytest.mark.parametrize("body", ['"text"', "[]", "5", "null"])
    def test_json_that_is_no_object(self, api_client, body):
        assert shape_of(api_client.post("/api/v1/jobs", body, content_type="application/json")) == (400, "invalid_input")

    def test_a_body_of_another_type(self, api_client):
        answer = api_client.post("/api/v1/jobs", b"<a/>", content_type="application/xml")

        assert shape_of(answer) == (415, "unsupported_media_type")

    def test_nobody_is_asked_to_sign_in(self):
        answer = APIClient().get("/api/v1/jobs")

        assert shape_of(answer) == (401, "not_authenticated")
        assert answer["WWW-Authenticate"] == 'Token realm="api"'

    def test_a_session_without_csrf_token(self, user):
        client = APIClient(enforce_csrf_checks=True)
        client.force_login(user)

        assert shape_of(client.post("/api/v1/jobs", {}, format="json")) == (403, "permission_denied")

    def test_an_unknown_host(self, api_client):
        assert shape_of(api_client.get("/api/v1/jobs", HTTP_HOST="evil.example")) == (400, "invalid")

    def test_pages_elsewhere_are_pages(self, client):
        answer = client.get("/no-such-page")

        assert answer.status_code == 404
        assert answer["Content-Type"].startswith("text/html")


def raising(error: BaseException):
    def fail(*args, **kwargs):
        raise error

    return fail


class TestRaised:
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (InvalidGraph("bad", errors=[Problem(message="m", node="n", field="f")]), (400, "invalid_graph")),
            (Conflict("taken", code="name_taken"), (409, "name_taken")),
            (TooLarge("big"), (413, "too_large")),
            (RequestDataTooBig("big"), (413, "too_large")),
            (StorageFull("full"), (507, "storage_full")),
            (OSError(errno.ENOSPC, "No space left on device"), (507, "storage_full")),
            (OperationalError("connection refused"), (503, "unavailable")),
            (InterfaceError("connection is closed"), (503, "unavailable")),
            (PermissionDenied("no"), (403, "permission_denied")),
        ],
    )
    def test_each_error_has_its_status_and_code(self, api_client, monkeypatch, error, expected):
        monkeypatch.setattr("pipelines.api.views.jobs.services.start_run", raising(error))

        assert shape_of(api_client.post("/api/v1/jobs", {"nodes": []}, format="json")) == expected

    def test_a_full_disk_of_the_database_is_said(self, api_client, monkeypatch):
        error = OperationalError("could not extend file")
        error.__cause__ = psycopg.errors.DiskFull("could not extend file")
        monkeypatch.setattr("pipelines.api.views.jobs.services.start_run", raising(error))

        assert shape_of(api_client.post("/api/v1/jobs", {"nodes": []}, format="json")) == (507, "storage_full")

    def test_a_bug_is_logged_and_shows_nothing_of_itself(self, api_client, monkeypatch, caplog):
        monkeypatch.setattr("pipelines.api.views.jobs.services.start_run", raising(RuntimeError("secret detail")))
        api_client.raise_request_exception = False

        answer = api_client.post("/api/v1/jobs", {"nodes": []}, format="json")

        assert shape_of(answer) == (500, "server_error")
        assert "secret detail" not in answer.content.decode()
        assert "secret detail" in caplog.text

    def test_an_error_rolls_back_what_the_request_wrote(self, api_client, monkeypatch, user):
        from pipelines.tests.factories import RunFactory

        def write_and_fail(**values):
            RunFactory(owner=user)
            raise Conflict("too late")

        monkeypatch.setattr("pipelines.api.views.jobs.services.start_run", write_and_fail)
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)

        assert api_client.post("/api/v1/jobs", {"nodes": []}, format="json").status_code == 409
        assert not Run.objects.exists()


def test_nested_messages_become_paths(api_client, monkeypatch):
    error = serializers.ValidationError(
        {"nodes": [{}, {"config": {"rank": ["too high"]}}], "name": ["one", "two"], "non_field_errors": ["whole"]}
    )
    monkeypatch.setattr("pipelines.api.views.jobs.services.start_run", raising(error))

    answer = api_client.post("/api/v1/jobs", {"nodes": []}, format="json")

    assert shape_of(answer) == (400, "invalid_input")
    assert [(problem["field"], problem["message"]) for problem in answer.json()["errors"]] == [
        ("nodes.1.config.rank", "too high"),
        ("name", "one"),
        ("name", "two"),
        (None, "whole"),
    ]
