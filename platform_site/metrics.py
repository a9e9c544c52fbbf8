"""What the platform is doing, in numbers, in Prometheus' text format.

Everything is counted in the database at each question, so that every web process gives the same answer::

    scrape_configs:
      - job_name: truetune
        metrics_path: /metrics
        authorization: {type: Token, credentials: ft_…}    # of a member of staff, scope read
"""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Count, Max, Min, Sum
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.views import APIView

from datasets_app.models import DatasetVersion
from pipelines.models import Artifact, Event, NodeRun, Run, Status, TrackedNode, Worker
from platform_site.common.permissions import HasScope


class PlatformCollector(Collector):
    """Counts runs, nodes, workers and stored bytes."""

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its present values."""
        yield _counted("truetune_runs", "Runs by status.", "status", Status.values, Run.objects.values("status"))
        yield _counted(
            "truetune_node_runs", "Attempts of nodes by status.", "status", Status.values, NodeRun.objects.values("status")
        )
        yield from self._queues()
        yield _value("truetune_events", "Lines of all runs' streams.", Event.objects.count())
        yield _value("truetune_artifact_bytes", "Bytes of all artifacts.", _sum(Artifact.objects, "size_bytes"))
        yield _value("truetune_dataset_bytes", "Bytes of all dataset versions.", _sum(DatasetVersion.objects, "size_bytes"))
        behind = TrackedNode.objects.exclude(error="").count()
        yield _value("truetune_tracking_errors", "Nodes that the tracking server refuses.", behind)

    def _queues(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("truetune_queue_waiting", "Nodes that wait for a worker.", labels=["queue"])
        oldest = GaugeMetricFamily("truetune_queue_oldest_seconds", "Longest wait of a node, in seconds.", labels=["queue"])
        slots = GaugeMetricFamily("truetune_worker_slots", "Nodes that live workers run at once.", labels=["queue"])
        seen = GaugeMetricFamily("truetune_worker_seen_seconds", "Since a worker last reported, in seconds.", labels=["queue"])
        now = timezone.now()
        queued = NodeRun.objects.filter(status=Status.QUEUED).values("queue").annotate(count=Count("*"), first=Min("queued_at"))
        by_queue = {row["queue"]: row for row in queued}
        workers = Worker.objects.alive().values("queue").annotate(count=Sum("slots"), last=Max("last_seen_at"))
        live = {row["queue"]: row for row in workers}
        for queue in ("cpu", "gpu"):
            row = by_queue.get(queue, {"count": 0, "first": None})
            waiting.add_metric([queue], row["count"])
            oldest.add_metric([queue], (now - row["first"]).total_seconds() if row["first"] else 0)
            slots.add_metric([queue], live.get(queue, {"count": 0})["count"])
            if queue in live:
                seen.add_metric([queue], (now - live[queue]["last"]).total_seconds())
        yield from (waiting, oldest, slots, seen)


class MetricsView(APIView):
    """For the operator's Prometheus."""

    permission_classes = [IsAdminUser, HasScope]

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:  # noqa: ARG002 (the same for every member of staff)
        """Answer with every metric."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(PlatformCollector())
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _counted(name: str, text: str, label: str, values: list[str], rows: object) -> GaugeMetricFamily:
    """Return the number of rows by ``label``; 0 for a value that no row has, so that curves do not break off."""
    found = {row[label]: row["count"] for row in rows.annotate(count=Count("*"))}  # type: ignore[attr-defined]
    family = GaugeMetricFamily(name, text, labels=[label])
    for value in values:
        family.add_metric([value], found.get(value, 0))
    return family


def _value(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _sum(rows: object, field: str) -> int:
    return rows.aggregate(total=Sum(field))["total"] or 0  # type: ignore[attr-defined]
