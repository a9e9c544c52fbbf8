"""Addresses of pipelines, runs, artifacts, agents and events, below ``/api/v1``."""

from django.urls import path, register_converter

from pipelines.api.views.agents import AgentsView
from pipelines.api.views.artifacts import ArtifactDownloadView, ArtifactView
from pipelines.api.views.estimates import JobEstimateView
from pipelines.api.views.jobs import JobProgressView, JobRetryView, JobsView, JobView
from pipelines.api.views.logs import LogHistoryView, LogStreamView
from pipelines.api.views.metrics import JobMetricsView
from pipelines.api.views.pipelines import (
    PipelinesView,
    PipelineView,
    TemplatesView,
    ValidateView,
    VersionsView,
    VersionView,
)


class RunReference:
    """A run's id, or the client's own run_id; nothing else reaches a view."""

    regex = r"[A-Za-z0-9._-]{1,64}"

    def to_python(self, value: str) -> str:
        """Return the text as it is."""
        return value

    def to_url(self, value: str) -> str:
        """Return the text as it is."""
        return value


register_converter(RunReference, "run")

urlpatterns = [
    path("jobs", JobsView.as_view(), name="jobs"),
    path("jobs/estimate", JobEstimateView.as_view(), name="job-estimate"),
    path("jobs/<run:id>", JobView.as_view(), name="job"),
    path("jobs/<run:id>/progress", JobProgressView.as_view(), name="job-progress"),
    path("jobs/<run:id>/metrics", JobMetricsView.as_view(), name="job-metrics"),
    path("jobs/<run:id>/retry", JobRetryView.as_view(), name="job-retry"),
    path("artifacts/<uuid:id>", ArtifactView.as_view(), name="artifact"),
    path("artifacts/<uuid:id>/download", ArtifactDownloadView.as_view(), name="artifact-download"),
    path("pipelines", PipelinesView.as_view(), name="pipelines"),
    path("pipelines/validate", ValidateView.as_view(), name="pipelines-validate"),
    path("pipelines/templates", TemplatesView.as_view(), name="pipelines-templates"),
    path("pipelines/<uuid:id>", PipelineView.as_view(), name="pipeline"),
    path("pipelines/<uuid:id>/versions", VersionsView.as_view(), name="pipeline-versions"),
    path("pipelines/<uuid:id>/versions/<int:number>", VersionView.as_view(), name="pipeline-version"),
    path("agents", AgentsView.as_view(), name="agents"),
    path("logs/stream/<run:run_id>", LogStreamView.as_view(), name="log-stream"),
    path("logs/history/<run:run_id>", LogHistoryView.as_view(), name="log-history"),
]
