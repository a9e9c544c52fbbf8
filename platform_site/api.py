"""Everything below ``/api/v1``."""

from django.urls import include, path

from platform_site import schema  # noqa: F401 (the import registers how the schema describes signing in)
from platform_site.tokens_api import TokensView, TokenView

urlpatterns = [
    path("auth/tokens", TokensView.as_view(), name="api-tokens"),
    path("auth/tokens/<uuid:id>", TokenView.as_view(), name="api-token"),
    path("", include("pipelines.api.urls")),
    path("", include("datasets_app.urls")),
    path("", include("models_app.urls")),
]
