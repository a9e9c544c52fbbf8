"""A login link works once, for its user, for a limited time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from platform_site import login
from platform_site.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> User:
    return User.objects.create_superuser("admin")


def is_signed_in(client) -> bool:
    return "_auth_user_id" in client.session


def test_link_signs_its_user_in_and_shows_the_first_page(client, operator: User):
    response = client.get(login.login_path(operator))
    assert (response.status_code, response["Location"]) == (302, "/")
    assert client.session["_auth_user_id"] == str(operator.pk)
    assert "no-store" in response["Cache-Control"]


def test_link_works_once(client, operator: User):
    path = login.login_path(operator)
    client.get(path)
    client.logout()
    response = client.get(path)
    assert response.status_code == 403
    assert b"does not work any more" in response.content
    assert not is_signed_in(client)


def test_links_made_together_are_all_used_up_by_the_first(client, operator: User):
    paths = [login.login_path(operator), login.login_path(operator)]
    client.get(paths[0])
    client.logout()
    assert client.get(paths[1]).status_code == 403


def test_link_made_and_used_in_the_second_of_a_login_works_once_too(client, operator: User):
    for _ in range(3):
        path = login.login_path(operator)
        assert client.get(path).status_code == 302
        client.logout()
        assert client.get(path).status_code == 403
        operator.refresh_from_db()


def test_link_expires(client, operator: User, monkeypatch: pytest.MonkeyPatch):
    path = login.login_path(operator)
    later = timezone.now().replace(tzinfo=None) + timedelta(seconds=login.LIFETIME_SECONDS + 60)
    monkeypatch.setattr(login.one_time_login, "_now", lambda: later)
    assert client.get(path).status_code == 403


def test_link_of_somebody_inactive_does_not_work(client, operator: User):
    path = login.login_path(operator)
    User.objects.update(is_active=False)
    assert client.get(path).status_code == 403


def test_link_of_one_user_does_not_open_another(client, operator: User, user: User):
    token = login.login_path(operator).rpartition("/")[2]
    uid = login.login_path(user).split("/")[-2]
    assert client.get(f"/login/once/{uid}/{token}").status_code == 403


@pytest.mark.parametrize("uid", ["MQ", "x", "!!", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5"])
def test_made_up_link_does_not_work(client, uid: str, operator: User):
    assert client.get(f"/login/once/{uid}/abc-def").status_code in (403, 404)
    assert not is_signed_in(client)
