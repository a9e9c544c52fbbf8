"""What node runs make: artifacts, kept by content, and the checkpoints of unfinished work."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from pipelines.models.run import NodeRun
from platform_site.common.models import ScopedQuerySet, UUIDModel


class Artifact(UUIDModel):
    """An immutable file or folder in the store.

    ``uri`` is the storage name of the file, or of the folder that holds the files of ``manifest``; ``sha256`` of a folder
    is that of its manifest.
    """

    class Kind(models.TextChoices):
        DATASET = "dataset"
        EXAMPLES = "examples"
        MODEL = "model"
        REPORT = "report"
        FILE = "file"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="artifacts")
    node_run = models.ForeignKey(
        NodeRun, null=True, blank=True, on_delete=models.SET_NULL, related_name="made", help_text="The attempt that made it."
    )
    port = models.CharField(max_length=100, blank=True)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    name = models.CharField(max_length=255, help_text="File or folder name for downloads.")
    uri = models.CharField(max_length=500)
    sha256 = models.CharField(max_length=64, db_index=True)
    size_bytes = models.BigIntegerField()
    is_folder = models.BooleanField(default=False)
    manifest = models.JSONField(
        default=list, help_text='Files of a folder: [{"path", "sha256", "size_bytes"}], sorted by path.'
    )
    metadata = models.JSONField(default=dict)
    parents = models.ManyToManyField("self", symmetrical=False, related_name="children", blank=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(size_bytes__gte=0), name="artifact_size_not_negative")]

    def __str__(self) -> str:
        return f"{self.kind} {self.name} {self.sha256[:12]}"


class NodeRunOutput(models.Model):
    """That a node run gave an artifact on a port; on a cache hit the artifact is an older one."""

    node_run = models.ForeignKey(NodeRun, on_delete=models.CASCADE, related_name="outputs")
    port = models.CharField(max_length=100)
    position = models.PositiveSmallIntegerField(default=0)
    artifact = models.ForeignKey(Artifact, on_delete=models.PROTECT, related_name="given_by")

    class Meta:
        ordering = ["port", "position"]
        constraints = [models.UniqueConstraint(fields=["node_run", "port", "position"], name="node_run_output_unique")]

    def __str__(self) -> str:
        return f"{self.node_run}.{self.port}"


class Checkpoint(UUIDModel):
    """A stored folder from which a later attempt of the node can go on."""

    node_run = models.ForeignKey(NodeRun, on_delete=models.CASCADE, related_name="checkpoints")
    step = models.PositiveIntegerField()
    uri = models.CharField(max_length=500)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    manifest = models.JSONField(default=list)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node_run", "step"], name="checkpoint_step_unique")]

    def __str__(self) -> str:
        return f"{self.node_run} at step {self.step}"
