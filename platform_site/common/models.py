"""Base classes of the platform's rows and querysets."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, ClassVar, Self

from django.db import models

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from platform_site.models import User


class ScopedQuerySet(models.QuerySet):
    """Rows with an owner. ``owner_path`` names the lookup that leads to it."""

    owner_path: ClassVar[str] = "owner"

    def visible_to(self, user: User | AnonymousUser) -> Self:
        """Return the rows that ``user`` may see: their own. The one place where teams will come in."""
        if not user.is_authenticated:
            return self.none()
        return self.filter(**{self.owner_path: user})

    def newest_first(self) -> Self:
        """Order by creation, newest first, with the id as tie-break so that cursors are stable."""
        return self.order_by("-created_at", "-id")


class UUIDModel(models.Model):
    """A row with a random UUID as its public id and the instant of its creation."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        abstract = True
