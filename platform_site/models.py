"""People and their API tokens."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Self

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone

from platform_site.common.models import ScopedQuerySet, UUIDModel


class User(AbstractUser):
    """A person or script that owns rows."""


class ApiTokenQuerySet(ScopedQuerySet):
    def usable(self) -> Self:
        """Return tokens neither revoked nor expired."""
        alive = models.Q(expires_at__isnull=True) | models.Q(expires_at__gt=timezone.now())
        return self.filter(alive, revoked_at__isnull=True)


class ApiToken(UUIDModel):
    """A named, scoped key for scripts. Only its SHA-256 is stored; the key is shown once, when it is made."""

    class Scope(models.TextChoices):
        READ = "read", "Read"
        RUN = "run", "Run and write"
        ADMIN = "admin", "Administer"

    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    scopes = ArrayField(models.CharField(max_length=10, choices=Scope.choices), default=list)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    prefix = models.CharField(max_length=8, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        verbose_name = "API token"
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "name"], condition=models.Q(revoked_at__isnull=True), name="api_token_name_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @classmethod
    def issue(cls, *, owner: User, name: str, scopes: list[str], lifetime: timedelta | None = None) -> tuple[ApiToken, str]:
        """Make a token and return it with its key, which is not stored and cannot be shown again."""
        key = f"ft_{secrets.token_urlsafe(32)}"
        expires_at = timezone.now() + lifetime if lifetime else None
        token = cls.objects.create(
            owner=owner, name=name, scopes=scopes, digest=cls.digest_of(key), prefix=key[:8], expires_at=expires_at
        )
        return token, key

    @staticmethod
    def digest_of(key: str) -> str:
        """Return the stored form of ``key``: 64 hex digits. The key has 256 random bits, so one round suffices."""
        return hashlib.sha256(key.encode()).hexdigest()

    def allows(self, scope: str) -> bool:
        """Say whether the token grants ``scope``: admin includes run, run includes read."""
        order = [self.Scope.READ.value, self.Scope.RUN.value, self.Scope.ADMIN.value]
        return any(order.index(granted) >= order.index(scope) for granted in self.scopes)
