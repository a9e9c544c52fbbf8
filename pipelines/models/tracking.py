"""How far an outside tracking server knows a node."""

from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models import F, OuterRef, Q, Subquery

from pipelines.models.run import NodeRun, Run


class TrackedNodeQuerySet(models.QuerySet["TrackedNode"]):
    def unfinished(self) -> Self:
        """Return the nodes whose newest attempt has not been told to its end, longest waiting first."""
        attempts = NodeRun.objects.filter(run=OuterRef("run"), node=OuterRef("node")).order_by("-attempt").values("attempt")
        newest = self.annotate(newest_attempt=Subquery(attempts[:1]))
        return newest.filter(Q(ended_attempt=None) | Q(ended_attempt__lt=F("newest_attempt"))).order_by("updated_at")


class TrackedNode(models.Model):
    """One node of a run, all its attempts together, as one run of the tracking server."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="tracked_nodes")
    node = models.CharField(max_length=100)
    experiment_id = models.CharField(max_length=64, blank=True)
    tracking_run_id = models.CharField(max_length=64, blank=True, help_text="Empty until the server has made it.")
    last_seq = models.BigIntegerField(default=0, help_text="Number of the last event that was sent.")
    last_steps = models.JSONField(default=dict, help_text="Last step sent of each metric: a resume repeats some.")
    ended_attempt = models.PositiveIntegerField(null=True, blank=True, help_text="Attempt whose end was sent.")
    error = models.TextField(blank=True, help_text="Why the last try to send failed.")
    updated_at = models.DateTimeField(auto_now=True)

    objects = TrackedNodeQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "node"], name="tracked_node_unique")]

    def __str__(self) -> str:
        return f"{self.run_id}/{self.node}"
