"""Named models, their versions, and the scores that were measured on them."""

from __future__ import annotations

from typing import Self

from django.conf import settings
from django.db import models

from platform_site.common.models import ScopedQuerySet, UUIDModel


class RegisteredModel(UUIDModel):
    """A name under which versions are kept."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="registered_models")
    name = models.CharField(max_length=300)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="registered_model_name_unique")]

    def __str__(self) -> str:
        return self.name


class ModelVersionQuerySet(ScopedQuerySet):
    owner_path = "model__owner"

    def with_content(self, *, kind: str, sha256: str) -> Self:
        """Return the versions of that kind whose weights have that digest, newest first."""
        return self.filter(kind=kind, sha256=sha256).newest_first()


class ModelVersion(UUIDModel):
    """One set of weights. A base has no artifact: ``base_model`` names where it comes from."""

    class Kind(models.TextChoices):
        BASE = "base"
        ADAPTER = "adapter"
        MERGED = "merged"
        GGUF = "gguf"

    model = models.ForeignKey(RegisteredModel, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    kind = models.CharField(max_length=10, choices=Kind.choices)
    base_model = models.CharField(max_length=300, help_text="Reference of the base, as in a config.")
    sha256 = models.CharField(
        max_length=64, blank=True, db_index=True, help_text="Digest of the artifact, or of what a base's reference stood for."
    )
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="derived")
    artifact = models.ForeignKey(
        "pipelines.Artifact", null=True, blank=True, on_delete=models.PROTECT, related_name="model_versions"
    )
    run = models.ForeignKey("pipelines.Run", null=True, blank=True, on_delete=models.SET_NULL, related_name="model_versions")
    node = models.CharField(max_length=100, blank=True)
    metrics = models.JSONField(default=dict, help_text="Summary numbers of the node that made it, units in the names.")

    objects = ModelVersionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "number"], name="model_version_number_unique"),
            models.CheckConstraint(
                condition=models.Q(kind="base") | models.Q(artifact__isnull=False), name="model_version_has_weights"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} v{self.number} ({self.kind})"


class Evaluation(UUIDModel):
    """Scores of one ModelVersion on one set of examples, from an evaluation report."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="evaluations")
    model_version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="evaluations")
    report = models.ForeignKey("pipelines.Artifact", on_delete=models.PROTECT, related_name="evaluations")
    run = models.ForeignKey("pipelines.Run", null=True, on_delete=models.SET_NULL, related_name="evaluations")
    examples_sha256 = models.CharField(max_length=64, blank=True, help_text="Digest of the examples it was measured on.")
    scores = models.JSONField(default=dict, help_text="Loss in nats per supervised token, shares from 0 to 1.")

    objects = ScopedQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model_version", "report"], name="evaluation_report_unique")]

    def __str__(self) -> str:
        return f"evaluation of {self.model_version}"
