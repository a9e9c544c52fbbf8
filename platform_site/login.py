"""One-time login links: how the first person gets in before any password exists."""

from __future__ import annotations

from django.contrib.auth import login
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.encoding import force_str
from django.utils.http import base36_to_int, urlsafe_base64_decode, urlsafe_base64_encode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from platform_site.models import User

LIFETIME_SECONDS = 12 * 3600
BACKEND = "django.contrib.auth.backends.ModelBackend"


class OneTimeLogin(PasswordResetTokenGenerator):
    """Tokens that the login itself uses up: they are signed over the instant of the last login."""

    key_salt = "platform_site.login.OneTimeLogin"

    def check_token(self, user: User | None, token: str | None) -> bool:
        """Say whether ``token`` is ours, unused, and at most ``LIFETIME_SECONDS`` old."""
        if not super().check_token(user, token):
            return False
        made_at = base36_to_int(str(token).partition("-")[0])
        return self._num_seconds(self._now()) - made_at <= LIFETIME_SECONDS

    def _make_hash_value(self, user: User, timestamp: int) -> str:
        # Django rounds the last login to seconds: a link made and used within one second would work twice.
        return f"{super()._make_hash_value(user, timestamp)}{user.last_login.isoformat() if user.last_login else ''}"


one_time_login = OneTimeLogin()


def login_path(user: User) -> str:
    """Return the path of a new link that signs ``user`` in once."""
    uid = urlsafe_base64_encode(str(user.pk).encode())
    # Spelled out, as in urls.py: `reverse` would load every view, which the launcher need not wait for.
    return f"/login/once/{uid}/{one_time_login.make_token(user)}"


@never_cache
@require_GET
def login_once(request: HttpRequest, uid: str, token: str) -> HttpResponse:
    """Sign in whom the link was made for, or say that it has been used."""
    with transaction.atomic():
        user = _user_of(uid)
        if user is None or not user.is_active or not one_time_login.check_token(user, token):
            return TemplateResponse(request, "registration/link_used.html", status=403)
        login(request, user, backend=BACKEND)
    return redirect("/")


def _user_of(uid: str) -> User | None:
    """Read and lock the user, so that two requests cannot use one link."""
    try:
        return User.objects.select_for_update().filter(pk=int(force_str(urlsafe_base64_decode(uid)))).first()
    except (ValueError, OverflowError):
        return None
