"""Addresses of the whole site."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from platform_site.health import health, ready
from platform_site.login import login_once
from platform_site.metrics import MetricsView

urlpatterns = [
    path("api/v1/", include("platform_site.api")),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("docs", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    path("health", health, name="health"),
    path("ready", ready, name="ready"),
    path("metrics", MetricsView.as_view(), name="metrics"),
    path("admin/", admin.site.urls),
    path("login/once/<str:uid>/<str:token>", login_once, name="login-once"),
    path("", include("frontend.urls")),
]

handler400 = "platform_site.common.exceptions.bad_request"
handler403 = "platform_site.common.exceptions.permission_denied"
handler404 = "platform_site.common.exceptions.not_found"
handler500 = "platform_site.common.exceptions.server_error"
