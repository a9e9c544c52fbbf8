"""API tokens: make, list, revoke."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics, serializers, status
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from platform_site.common.authentication import ApiTokenAuthentication, PasswordAuthentication, SessionAuthentication
from platform_site.common.errors import Conflict
from platform_site.models import ApiToken

MAX_LIFETIME_DAYS = 3_650


class TokenSerializer(serializers.ModelSerializer):
    """A token without its key."""

    scopes = serializers.ListField(child=serializers.ChoiceField(choices=ApiToken.Scope.choices))

    class Meta:
        model = ApiToken
        fields = ["id", "name", "prefix", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at"]


class NewTokenSerializer(TokenSerializer):
    """A token with its key, which is shown this once."""

    key = serializers.CharField(read_only=True)

    class Meta(TokenSerializer.Meta):
        fields = [*TokenSerializer.Meta.fields, "key"]


class TokenRequestSerializer(serializers.Serializer):
    """What a new token may do, and for how long."""

    name = serializers.CharField(max_length=100)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=ApiToken.Scope.choices), allow_empty=False, default=["read", "run"]
    )
    expires_in_days = serializers.IntegerField(
        min_value=1, max_value=MAX_LIFETIME_DAYS, allow_null=True, default=None, help_text="Never, if left out."
    )


@extend_schema_view(get=extend_schema(operation_id="tokens_list"))
class TokensView(generics.ListAPIView):
    """The user's tokens, newest first."""

    serializer_class = TokenSerializer

    def get_queryset(self) -> QuerySet[ApiToken]:
        """Return the user's own tokens."""
        return ApiToken.objects.visible_to(self.request.user)

    def get_authenticators(self) -> list[BaseAuthentication]:
        """Take a password too, where a token is made: the first one has to come from something else."""
        usual: list[BaseAuthentication] = [ApiTokenAuthentication(), SessionAuthentication()]
        return [*usual, PasswordAuthentication()] if self.request and self.request.method == "POST" else usual

    @property
    def required_scope(self) -> str:
        """A token that makes tokens could give itself any scope and life: that needs ``admin``."""
        return ApiToken.Scope.ADMIN if self.request.method == "POST" else ApiToken.Scope.READ

    @extend_schema(operation_id="tokens_make", request=TokenRequestSerializer, responses={201: NewTokenSerializer})
    def post(self, request: Request) -> Response:
        """Make a token. Its key is in this answer and nowhere else."""
        body = TokenRequestSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        days = body.validated_data["expires_in_days"]
        name = body.validated_data["name"]
        if ApiToken.objects.visible_to(request.user).filter(name=name, revoked_at__isnull=True).exists():
            raise Conflict(f"You have a token named {name!r} already; revoke it or choose another name.")
        token, token.key = ApiToken.issue(
            owner=request.user, name=name, scopes=body.validated_data["scopes"], lifetime=timedelta(days=days) if days else None
        )
        return Response(NewTokenSerializer(token).data, status=status.HTTP_201_CREATED)


class TokenView(APIView):
    """One token."""

    required_scope = ApiToken.Scope.ADMIN

    @extend_schema(operation_id="tokens_revoke", responses={204: None})
    def delete(self, request: Request, id: UUID) -> Response:
        """Revoke a token: it stops working at once, and its line stays for the record."""
        token = ApiToken.objects.visible_to(request.user).filter(pk=id, revoked_at__isnull=True).first()
        if token is None:
            raise Http404
        token.revoked_at = timezone.now()
        token.save(update_fields=["revoked_at"])
        return Response(status=status.HTTP_204_NO_CONTENT)
