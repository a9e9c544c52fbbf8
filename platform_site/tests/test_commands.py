"""The small management commands."""

from __future__ import annotations

import socket
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from pipelines.models import Worker
from platform_site.models import ApiToken, User

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_create_token_prints_a_key_that_works(user: User):
    key = run("create_token", "ada", "--name", "laptop", "--scope", "read").splitlines()[-1]
    token = ApiToken.objects.usable().get(digest=ApiToken.digest_of(key))
    assert (token.owner, token.name, token.scopes, token.expires_at) == (user, "laptop", ["read"], None)


def test_create_token_key_only_prints_nothing_else(user: User):
    assert ApiToken.objects.filter(digest=ApiToken.digest_of(run("create_token", "ada", "--key-only").strip())).exists()


def test_create_token_expires_after_the_days_given(user: User):
    run("create_token", "ada", "--days", "2")
    left = ApiToken.objects.get().expires_at - timezone.now()
    assert timedelta(days=1, hours=23) < left <= timedelta(days=2)


def test_create_token_refuses_what_is_wrong(user: User):
    with pytest.raises(CommandError, match="no user 'nobody'"):
        run("create_token", "nobody")
    with pytest.raises(CommandError, match="at least 1, got 0"):
        run("create_token", "ada", "--days", "0")


@pytest.mark.django_db(transaction=True)
def test_create_token_refuses_a_name_in_use(user: User):
    run("create_token", "ada", "--name", "laptop")
    with pytest.raises(CommandError, match="has a token named 'laptop' already"):
        run("create_token", "ada", "--name", "laptop")


def test_login_link_signs_in(client, user: User):
    link = run("login_link", "ada").strip()
    assert client.get(link.partition(":8000")[2] or "/" + link.split("/", 3)[3]).status_code == 302
    assert client.session["_auth_user_id"] == str(user.pk)


def test_login_link_needs_an_active_user(user: User):
    User.objects.update(is_active=False)
    with pytest.raises(CommandError, match="no active user 'ada'"):
        run("login_link", "ada")


def test_make_buckets_makes_what_lacks_and_leaves_the_rest(s3_storage, settings):
    settings.ENV = settings.ENV.model_copy(update={"minio_bucket": "fresh", "data_buckets": ["datasets", "more"]})
    assert run("make_buckets").splitlines() == ["fresh: made", "datasets: exists", "more: made"]
    assert run("make_buckets").splitlines() == ["fresh: exists", "datasets: exists", "more: exists"]
    assert {"fresh", "more"} <= {bucket["Name"] for bucket in s3_storage.client().list_buckets()["Buckets"]}


def test_make_buckets_without_an_endpoint_says_so():
    with pytest.raises(CommandError, match="MINIO_ENDPOINT is not set"):
        run("make_buckets")


def test_worker_alive_looks_at_this_host_only():
    with pytest.raises(SystemExit):
        run("worker_alive")
    soon = timezone.now() + timedelta(minutes=1)
    Worker.objects.create(name="cpu@elsewhere.invalid", queue="cpu", expires_at=soon)
    with pytest.raises(SystemExit):
        run("worker_alive")
    Worker.objects.create(name=f"cpu@{socket.gethostname()}", queue="cpu", expires_at=soon)
    run("worker_alive")
