"""Addresses of the registry, below ``/api/v1``."""

from django.urls import path

from models_app.views import ModelCardView, ModelCompareView, ModelDownloadView, ModelsView, ModelView

urlpatterns = [
    path("models", ModelsView.as_view(), name="models"),
    path("models/compare", ModelCompareView.as_view(), name="models-compare"),
    path("models/<uuid:id>", ModelView.as_view(), name="model"),
    path("models/<uuid:id>/download", ModelDownloadView.as_view(), name="model-download"),
    path("models/<uuid:id>/card", ModelCardView.as_view(), name="model-card"),
]
