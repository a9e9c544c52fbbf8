"""Who sends a request: a browser session, or a script with a token."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils import timezone
from rest_framework import authentication, exceptions
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from platform_site.models import ApiToken, User

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which reads the settings that name this module

USE_RECORDED_EVERY = timedelta(minutes=1)


def find_token(key: str) -> ApiToken | None:
    """Return the usable token of ``key`` with its owner, and record its use at most once a minute."""
    token = ApiToken.objects.usable().select_related("owner").filter(digest=ApiToken.digest_of(key)).first()
    if token is None or not token.owner.is_active:
        return None
    now = timezone.now()
    if token.last_used_at is None or token.last_used_at < now - USE_RECORDED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


class ApiTokenAuthentication(authentication.BaseAuthentication):
    """``Authorization: Token <key>``. Sets ``request.auth`` to the token, whose scopes the permissions read."""

    keyword = "Token"

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """Return the token's owner and the token; None where the header is absent or of another kind.

        Raises: AuthenticationFailed: the key is malformed, unknown, expired or revoked.
        """
        keyword, _, key = authentication.get_authorization_header(request).decode("latin-1").partition(" ")
        if keyword.lower() != self.keyword.lower():
            return None
        key = key.strip()
        if not key or " " in key:
            raise exceptions.AuthenticationFailed("The header must read: Authorization: Token <key>.")
        token = find_token(key)
        if token is None:
            raise exceptions.AuthenticationFailed("The token is unknown, expired or revoked.")
        return token.owner, token

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 (the framework's signature)
        """Return the challenge that goes with a 401."""
        return f'{self.keyword} realm="api"'


class SessionAuthentication(authentication.SessionAuthentication):
    """The browser's session; unsafe methods need the CSRF token."""


class PasswordThrottle(SimpleRateThrottle):
    """Few tries of a name and password from one address, right or wrong."""

    rate = "20/min"
    scope = "password"

    def get_cache_key(self, request: Request, view: APIView | None) -> str:  # noqa: ARG002 (the framework's signature)
        """Count by address."""
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}


class PasswordAuthentication(authentication.BasicAuthentication):
    """Name and password, for the one endpoint that makes tokens."""

    www_authenticate_realm = "api"

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        """Check the password, unless too many were tried.

        Raises: AuthenticationFailed: it is wrong. Throttled: too many tries.
        """
        keyword = authentication.get_authorization_header(request).partition(b" ")[0]
        if keyword.lower() == b"basic":
            throttle = PasswordThrottle()
            if not throttle.allow_request(request, None):
                raise exceptions.Throttled(throttle.wait())
        return super().authenticate(request)

    def authenticate_credentials(self, userid: str, password: str, request: Request | None = None) -> tuple[User, None]:
        """Check name and password.

        Raises: AuthenticationFailed: they are wrong, or hold a character that PostgreSQL has not.
        """
        if "\x00" in userid:
            raise exceptions.AuthenticationFailed("The name must not contain NUL.")
        return super().authenticate_credentials(userid, password, request)
