"""A pipeline as it is edited, and its immutable versions."""

from __future__ import annotations

from typing import Self

from django.conf import settings
from django.db import models

from platform_site.common.models import ScopedQuerySet, UUIDModel


class PipelineQuerySet(ScopedQuerySet):
    def kept(self) -> Self:
        """Return the pipelines that nobody threw away."""
        return self.filter(deleted_at=None)


class Pipeline(UUIDModel):
    """The editable head. ``edit_number`` rises with every saved draft, so that a stale writer is told.

    A pipeline that was thrown away stays as a row: its versions and their runs are history.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="pipelines")
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    draft = models.JSONField(default=dict, help_text="Nodes and edges in the pipeline JSON.")
    edit_number = models.PositiveIntegerField(default=1)
    updated_at = models.DateTimeField(auto_now=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = PipelineQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name


class PipelineVersionQuerySet(ScopedQuerySet):
    pass


class PipelineVersion(UUIDModel):
    """A frozen graph. Versions that a script posted without a pipeline have none, and are found by their sha256."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="pipeline_versions")
    pipeline = models.ForeignKey(Pipeline, null=True, blank=True, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(default=1)
    name = models.CharField(max_length=200, blank=True)
    graph = models.JSONField(help_text="Nodes and edges, as validated.")
    sha256 = models.CharField(max_length=64)

    objects = PipelineVersionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["pipeline", "number"], name="pipeline_version_number_unique"),
            models.UniqueConstraint(
                fields=["owner", "sha256"],
                condition=models.Q(pipeline__isnull=True),
                name="pipeline_version_unnamed_unique",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pipeline or 'posted graph'} v{self.number}"

    def save(self, *args: object, **kwargs: object) -> None:
        """Refuse to change a frozen version.

        Raises: TypeError: the version is stored already.
        """
        if not self._state.adding:
            raise TypeError(f"PipelineVersion {self.pk} is immutable; make a new version")
        super().save(*args, **kwargs)
