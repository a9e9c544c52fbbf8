"""One line of a run's stream."""

from __future__ import annotations

from django.db import models

from pipelines.models.run import Run


class Event(models.Model):
    """A log line, metric or status, numbered from 1 without gaps within its run. Written only by ``pipelines.events``."""

    class Type(models.TextChoices):
        LOG = "log"
        METRIC = "metric"
        STATUS = "status"

    pk = models.CompositePrimaryKey("run_id", "seq")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events")
    seq = models.BigIntegerField()
    type = models.CharField(max_length=6, choices=Type.choices)
    node = models.CharField(max_length=100, blank=True)
    attempt = models.PositiveIntegerField(null=True)
    agent = models.CharField(max_length=100, blank=True)
    level = models.CharField(max_length=8)
    message = models.TextField()
    timestamp = models.DateTimeField()
    step = models.BigIntegerField(null=True)
    epoch = models.FloatField(null=True)
    loss = models.FloatField(null=True)
    data = models.JSONField(default=dict)

    class Meta:
        indexes = [models.Index(fields=["run", "node", "step"], condition=models.Q(type="metric"), name="event_metrics")]

    def __str__(self) -> str:
        return f"{self.run_id} {self.seq} {self.message[:60]}"
