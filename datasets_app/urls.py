"""Addresses of datasets, below ``/api/v1``."""

from django.urls import path

from datasets_app.api.tokens import TokensView
from datasets_app.api.versions import DiffView, FixesView
from datasets_app.api.views import DatasetsView, DatasetView, PreviewView, ReportView, UploadView

urlpatterns = [
    path("datasets/upload", UploadView.as_view(), name="dataset-upload"),
    path("datasets", DatasetsView.as_view(), name="api-datasets"),
    path("datasets/<uuid:id>", DatasetView.as_view(), name="api-dataset"),
    path("datasets/<uuid:id>/preview", PreviewView.as_view(), name="dataset-preview"),
    path("datasets/<uuid:id>/diff", DiffView.as_view(), name="dataset-diff"),
    path("datasets/<uuid:id>/fixes", FixesView.as_view(), name="dataset-fixes"),
    path("datasets/<uuid:id>/report", ReportView.as_view(), name="dataset-report"),
    path("datasets/<uuid:id>/tokens", TokensView.as_view(), name="dataset-tokens"),
]
