"""What a request may do: its scope. Which rows it reaches is the querysets' matter (``visible_to``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from platform_site.models import ApiToken

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which reads the settings that name this module


class HasScope(BasePermission):
    """Signed in, and where by a token, with the scope: ``read`` for GET and HEAD, ``run`` for the rest.

    A view may name another one as ``required_scope``. A session has every scope.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Say whether the request may go on; the message names the scope that lacks."""
        if not request.user.is_authenticated:
            return False
        if not isinstance(request.auth, ApiToken):
            return True
        usual = ApiToken.Scope.READ if request.method in SAFE_METHODS else ApiToken.Scope.RUN
        scope = getattr(view, "required_scope", usual)
        self.message = f"This needs a token with the scope {scope}."
        return request.auth.allows(scope)
