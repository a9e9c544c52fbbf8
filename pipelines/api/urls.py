"""Addresses of runs, artifacts, agents and events, below ``/api/v1``."""

from django.urls import path

from pipelines.api.views.agents import AgentsView
from pipelines.api.views.artifacts import ArtifactDownloadView, ArtifactView
from pipelines.api.views.jobs import JobProgressView, JobRetryView, JobsView, JobView
from pipelines.api.views.logs import LogHistoryView, LogStreamView
from pipelines.api.views.metrics import JobMetricsView

urlpatterns = [
    path("jobs", JobsView.as_view(), name="jobs"),
    path("jobs/<str:id>", JobView.as_view(), name="job"),
    path("jobs/<str:id>/progress", JobProgressView.as_view(), name="job-progress"),
    path("jobs/<str:id>/metrics", JobMetricsView.as_view(), name="job-metrics"),
    path("jobs/<str:id>/retry", JobRetryView.as_view(), name="job-retry"),
    path("artifacts/<uuid:id>", ArtifactView.as_view(), name="artifact"),
    path("artifacts/<uuid:id>/download", ArtifactDownloadView.as_view(), name="artifact-download"),
    path("agents", AgentsView.as_view(), name="agents"),
    path("logs/stream/<str:run_id>", LogStreamView.as_view(), name="log-stream"),
    path("logs/history/<str:run_id>", LogHistoryView.as_view(), name="log-history"),
]
