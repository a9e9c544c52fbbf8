"""A worker process that has reported itself."""

from __future__ import annotations

from typing import Self

from django.db import models
from django.utils import timezone


class WorkerQuerySet(models.QuerySet):
    def alive(self) -> Self:
        """Return workers seen within the lease time."""
        return self.filter(expires_at__gt=timezone.now())


class Worker(models.Model):
    """One Celery worker of one queue, renewed together with its leases."""

    name = models.CharField(max_length=200, primary_key=True)
    queue = models.CharField(max_length=20)
    slots = models.PositiveSmallIntegerField(default=1)
    devices = models.JSONField(default=list, help_text="Names of the GPUs it pins; empty on the CPU.")
    profile = models.JSONField(default=dict, blank=True, help_text="What it measured of its machine; empty until then.")
    started_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()

    objects = WorkerQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name
