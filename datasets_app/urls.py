"""Addresses of datasets, below ``/api/v1``."""

from django.urls import path

from datasets_app.api import columns
from datasets_app.api.imports import ImportStateView, ImportsView, ImportView
from datasets_app.api.measures import ApplyDecisionsView, DecisionsView, DuplicatesView, TokenLengthsView
from datasets_app.api.tokens import TokensView
from datasets_app.api.versions import DiffView, FixesView
from datasets_app.api.views import DatasetsView, DatasetView, PreviewView, ReportView, UploadView

urlpatterns = [
    path("datasets/upload", UploadView.as_view(), name="dataset-upload"),
    path("datasets/uploads", columns.WaitingUploadsView.as_view(), name="dataset-uploads"),
    path("datasets/uploads/<uuid:id>", columns.WaitingUploadView.as_view(), name="dataset-waiting-upload"),
    path("datasets/uploads/<uuid:id>/columns", columns.UploadColumnsView.as_view(), name="dataset-upload-columns"),
    path(
        "datasets/uploads/<uuid:id>/columns/preview",
        columns.UploadColumnsPreviewView.as_view(),
        name="dataset-upload-columns-preview",
    ),
    path("datasets/import", ImportView.as_view(), name="dataset-import"),
    path("datasets/imports", ImportsView.as_view(), name="dataset-imports"),
    path("datasets/imports/<uuid:id>", ImportStateView.as_view(), name="dataset-import-state"),
    path("datasets", DatasetsView.as_view(), name="api-datasets"),
    path("datasets/<uuid:id>", DatasetView.as_view(), name="api-dataset"),
    path("datasets/<uuid:id>/preview", PreviewView.as_view(), name="dataset-preview"),
    path("datasets/<uuid:id>/columns", columns.ColumnsView.as_view(), name="dataset-columns"),
    path("datasets/<uuid:id>/columns/preview", columns.ColumnsPreviewView.as_view(), name="dataset-columns-preview"),
    path("datasets/<uuid:id>/duplicates", DuplicatesView.as_view(), name="dataset-duplicates"),
    path("datasets/<uuid:id>/duplicates/decisions", DecisionsView.as_view(), name="dataset-duplicates-decisions"),
    path("datasets/<uuid:id>/duplicates/apply", ApplyDecisionsView.as_view(), name="dataset-duplicates-apply"),
    path("datasets/<uuid:id>/token-lengths", TokenLengthsView.as_view(), name="dataset-token-lengths"),
    path("datasets/<uuid:id>/diff", DiffView.as_view(), name="dataset-diff"),
    path("datasets/<uuid:id>/fixes", FixesView.as_view(), name="dataset-fixes"),
    path("datasets/<uuid:id>/report", ReportView.as_view(), name="dataset-report"),
    path("datasets/<uuid:id>/tokens", TokensView.as_view(), name="dataset-tokens"),
]
