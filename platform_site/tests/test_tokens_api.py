"""Making, listing and revoking tokens."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from platform_site.models import ApiToken

pytestmark = pytest.mark.django_db
URL = "/api/v1/auth/tokens"


def make(api_client, **body):
    return api_client.post(URL, {"name": "laptop"} | body, format="json")


def test_the_key_is_shown_once_and_works(api_client):
    made = make(api_client, scopes=["read"], expires_in_days=30)

    assert made.status_code == 201
    key = made.json()["key"]
    assert APIClient(headers={"Authorization": f"Token {key}"}).get("/api/v1/jobs").status_code == 200
    stored = ApiToken.objects.get(name="laptop")
    assert key not in (stored.digest, stored.prefix)
    assert abs(stored.expires_at - timezone.now() - timedelta(days=30)) < timedelta(minutes=1)
    assert all("key" not in row for row in api_client.get(URL).json()["results"])


def test_a_token_reads_and_runs_unless_it_is_told_otherwise(api_client):
    made = make(api_client).json()

    assert made["scopes"] == ["read", "run"]
    assert made["expires_at"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes.0"),
        ({"expires_in_days": 0}, "expires_in_days"),
        ({"expires_in_days": 10**9}, "expires_in_days"),
    ],
)
def test_a_bad_request_is_named_by_field(api_client, body, field):
    answer = make(api_client, **body)

    assert answer.status_code == 400
    assert [problem["field"] for problem in answer.json()["errors"]] == [field]


def test_a_name_may_be_used_again_after_its_token_is_revoked(api_client):
    first = make(api_client).json()
    assert make(api_client).status_code == 409

    assert api_client.delete(f"{URL}/{first['id']}").status_code == 204

    assert make(api_client).status_code == 201


def test_a_revoked_token_stops_at_once_and_stays_on_record(api_client):
    made = make(api_client).json()

    api_client.delete(f"{URL}/{made['id']}")

    assert APIClient(headers={"Authorization": f"Token {made['key']}"}).get("/api/v1/jobs").status_code == 401
    rows = {row["id"]: row for row in api_client.get(URL).json()["results"]}
    assert rows[made["id"]]["revoked_at"] is not None
    assert api_client.delete(f"{URL}/{made['id']}").status_code == 404


def test_a_strangers_token_is_not_there(api_client, other_user):
    theirs, _ = ApiToken.issue(owner=other_user, name="theirs", scopes=["read"])

    assert api_client.delete(f"{URL}/{theirs.id}").status_code == 404
    assert str(theirs.id) not in api_client.get(URL).content.decode()
