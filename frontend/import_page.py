"""The page that brings data from the Hub or a bucket, and says how far each import is."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe

from datasets_app.models import DatasetImport
from pipelines.references import hub

SHOWN = 50


@require_safe
@never_cache
@login_required
@ensure_csrf_cookie
def imports(request: HttpRequest) -> HttpResponse:
    """Show the form, and the user's newest imports."""
    found = DatasetImport.objects.visible_to(request.user).select_related("version").newest_first()
    context = {
        "imports": found[:SHOWN],
        "is_offline": hub.is_offline(),
        "max_import_bytes": settings.ENV.max_import_bytes,
        "buckets": [settings.ENV.minio_bucket, *settings.ENV.data_buckets],
    }
    template = "frontend/_imports.html" if "fragment" in request.GET else "frontend/imports.html"
    return render(request, template, context)
