"""Tokens and sessions: who gets in, and how far."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from platform_site.models import ApiToken

pytestmark = pytest.mark.django_db


@pytest.fixture
def token(user) -> ApiToken:
    made, key = ApiToken.issue(owner=user, name="script", scopes=["read"])
    made.key = key
    return made


def get(key: str, path: str = "/api/v1/jobs"):
    return APIClient().get(path, headers={"Authorization": f"Token {key}"})


def test_a_token_gets_in_and_its_use_is_recorded_once_a_minute(token, django_assert_num_queries):
    assert get(token.key).status_code == 200
    token.refresh_from_db()
    first_use = token.last_used_at
    assert first_use is not None

    get(token.key)
    token.refresh_from_db()
    assert token.last_used_at == first_use

    ApiToken.objects.update(last_used_at=timezone.now() - timedelta(minutes=2))
    get(token.key)
    token.refresh_from_db()
    assert token.last_used_at > first_use


@pytest.mark.parametrize(
    "changed",
    [{"revoked_at": timezone.now()}, {"expires_at": timezone.now() - timedelta(seconds=1)}],
    ids=["revoked", "expired"],
)
def test_a_dead_token_does_not(token, changed):
    ApiToken.objects.update(**changed)

    answer = get(token.key)

    assert (answer.status_code, answer.json()["code"]) == (401, "authentication_failed")
    assert answer["WWW-Authenticate"] == 'Token realm="api"'


def test_a_token_that_has_yet_to_expire_does(token):
    ApiToken.objects.update(expires_at=timezone.now() + timedelta(minutes=1))

    assert get(token.key).status_code == 200


@pytest.mark.parametrize("key", ["", "ft_unknown", "two words", "ft_é", "x" * 10_000])
def test_a_bad_key_is_401(user, key):
    answer = get(key)

    assert answer.status_code == 401
    assert set(answer.json()) == {"code", "detail", "errors"}


def test_the_stored_digest_is_no_key(token):
    assert get(token.digest).status_code == 401


def test_a_token_of_a_person_who_is_no_longer_active_is_dead(token, user):
    user.is_active = False
    user.save()

    assert get(token.key).status_code == 401


@pytest.mark.parametrize(
    ("scope", "reads", "writes", "makes_tokens"),
    [("read", 200, 403, 403), ("run", 200, 400, 403), ("admin", 200, 400, 201)],
)
def test_scopes(user, scope, reads, writes, makes_tokens):
    _, key = ApiToken.issue(owner=user, name=scope, scopes=[scope])
    client = APIClient(headers={"Authorization": f"Token {key}"})

    assert client.get("/api/v1/jobs").status_code == reads
    assert client.post("/api/v1/jobs", {}, format="json").status_code == writes
    assert client.post("/api/v1/auth/tokens", {"name": "new"}, format="json").status_code == makes_tokens


def test_a_refusal_names_the_scope(token):
    answer = APIClient().post("/api/v1/jobs", {}, format="json", headers={"Authorization": f"Token {token.key}"})

    assert answer.status_code == 403
    assert "run" in answer.json()["detail"]


def test_a_session_has_every_scope_with_its_csrf_token(user):
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(user)
    client.get("/admin/login/")
    client.get("/login")
    csrf = client.cookies["csrftoken"].value

    assert client.get("/api/v1/jobs").status_code == 200
    assert client.post("/api/v1/auth/tokens", {"name": "x"}, format="json", headers={"X-CSRFToken": csrf}).status_code == 201


def test_a_password_opens_only_the_place_where_tokens_are_made(user):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION="Basic YWRhOmNvcnJlY3QgaG9yc2UgYmF0dGVyeQ==")  # ada:correct horse battery

    assert client.get("/api/v1/jobs").status_code == 401
    assert client.get("/api/v1/auth/tokens").status_code == 401
    assert client.post("/api/v1/auth/tokens", {"name": "first"}, format="json").status_code == 201


@pytest.mark.parametrize("credentials", ["!", "YWRh", "YQBhOng=", "/////w=="])  # not base64, no colon, a NUL, not UTF-8
def test_malformed_passwords_are_401(user, credentials):
    answer = APIClient().post("/api/v1/auth/tokens", {"name": "x"}, headers={"Authorization": f"Basic {credentials}"})

    assert answer.status_code == 401


def test_guessing_passwords_is_slowed_down(user):
    from django.core.cache import cache

    cache.clear()
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION="Basic YWRhOndyb25n")  # ada:wrong

    codes = [client.post("/api/v1/auth/tokens", {"name": "x"}, format="json").status_code for _ in range(21)]
    cache.clear()

    assert codes == [401] * 20 + [429]
