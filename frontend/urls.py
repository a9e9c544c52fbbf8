"""Addresses of the pages."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from frontend import dataset_pages, import_page, token_page, views

urlpatterns = [
    path("", views.runs, name="runs"),
    path("runs", views.runs, name="runs-list"),
    path("runs/<str:run_id>", views.run, name="run"),
    path("runs/<str:run_id>/log.<str:extension>", views.run_log, name="run-log"),
    path("datasets", dataset_pages.datasets, name="datasets"),
    path("datasets/import", import_page.imports, name="dataset-imports-page"),
    path("datasets/uploads/<uuid:upload_id>", dataset_pages.upload_columns, name="dataset-upload-page"),
    path("datasets/<uuid:dataset_id>", dataset_pages.dataset, name="dataset"),
    path("datasets/<uuid:dataset_id>/report", dataset_pages.report, name="dataset-report-page"),
    path("datasets/<uuid:dataset_id>/columns", dataset_pages.columns, name="dataset-columns-page"),
    path("datasets/<uuid:dataset_id>/duplicates", dataset_pages.duplicates, name="dataset-duplicates-page"),
    path("datasets/<uuid:dataset_id>/versions", dataset_pages.versions, name="dataset-versions-page"),
    path("datasets/<uuid:dataset_id>/tokens", token_page.dataset_tokens, name="dataset-tokens-page"),
    path("models", views.models, name="models-page"),
    path("models/<uuid:model_id>", views.model, name="model-page"),
    path("settings/tokens", views.tokens, name="tokens"),
    path("login", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout", LogoutView.as_view(), name="logout"),
]
