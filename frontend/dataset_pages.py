"""The pages of datasets: upload, what a version is, its report, its columns, its duplicates, and what became of versions.

The pages of one dataset share a head: the version that they show, and the way to the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db.models import Count, Prefetch
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe

from datasets_app.models import Dataset, DatasetVersion, Measurement, WaitingUpload
from datasets_app.tokens import DEFAULT_MODEL
from frontend.lineage import Lineage, made_by
from frontend.token_page import known_models

TABS = {
    "dataset": "Overview",
    "dataset-report-page": "Report",
    "dataset-columns-page": "Columns",
    "dataset-duplicates-page": "Duplicates",
    "dataset-versions-page": "Versions",
    "dataset-tokens-page": "Tokens",
}
"""The pages of a dataset, by the name of their address."""

RECENT_VERSIONS = 6


@require_safe
@never_cache
@login_required
@ensure_csrf_cookie
def datasets(request: HttpRequest) -> HttpResponse:
    """List the user's datasets with their newest version, and the files that wait for a mapping."""
    newest = DatasetVersion.objects.defer("report").order_by("dataset_id", "-number").distinct("dataset_id")
    found = Dataset.objects.visible_to(request.user).newest_first().annotate(version_count=Count("versions"))
    context = {
        "datasets": found.prefetch_related(Prefetch("versions", newest, to_attr="newest")),
        "waiting": WaitingUpload.objects.visible_to(request.user).newest_first(),
        "max_upload_bytes": settings.ENV.max_upload_bytes,
    }
    template = "frontend/_datasets.html" if "fragment" in request.GET else "frontend/datasets.html"
    return render(request, template, context)


@require_safe
@login_required
@ensure_csrf_cookie
def dataset(request: HttpRequest, dataset_id: UUID) -> HttpResponse:
    """Show what a version is: its format and why, what its checks found, and its first rows."""
    return render(request, "frontend/dataset.html", _context(request, dataset_id))


@require_safe
@login_required
@ensure_csrf_cookie
def report(request: HttpRequest, dataset_id: UUID) -> HttpResponse:
    """Show what is wrong with which rows, what can be fixed, and what the rows are like."""
    context = _context(request, dataset_id)
    return render(
        request,
        "frontend/dataset_report.html",
        {**context, "models": list(known_models(request.user)), "default_model": DEFAULT_MODEL},
    )


@require_safe
@login_required
@ensure_csrf_cookie
def columns(request: HttpRequest, dataset_id: UUID) -> HttpResponse:
    """Show how the columns of a version were read, and let them be read another way."""
    context = _context(request, dataset_id)
    return render(
        request,
        "frontend/dataset_columns.html",
        {**context, "columns_url": reverse("dataset-columns", args=[dataset_id])},
    )


@require_safe
@login_required
@ensure_csrf_cookie
def upload_columns(request: HttpRequest, upload_id: UUID) -> HttpResponse:
    """Show a file whose rows fit no format by themselves, and let its columns be mapped."""
    waiting = get_object_or_404(WaitingUpload.objects.visible_to(request.user), pk=upload_id)
    columns_url = reverse("dataset-upload-columns", args=[waiting.pk])
    return render(request, "frontend/upload_columns.html", {"waiting": waiting, "columns_url": columns_url})


@require_safe
@login_required
@ensure_csrf_cookie
def duplicates(request: HttpRequest, dataset_id: UUID) -> HttpResponse:
    """Show pairs of rows that nearly repeat each other, and let a person decide."""
    context = _context(request, dataset_id)
    version = context["version"]
    known: list[str] = []
    if isinstance(version, DatasetVersion):
        kept = version.measurements.filter(kind=Measurement.Kind.NEAR_DUPLICATES).newest_first()
        known = list(kept.values_list("subject", flat=True))
    return render(request, "frontend/dataset_duplicates.html", {**context, "known": known})


@require_safe
@login_required
@ensure_csrf_cookie
def versions(request: HttpRequest, dataset_id: UUID) -> HttpResponse:
    """Show all versions, what each was made from, and what differs between two."""
    context = _context(request, dataset_id)
    found = context["versions"]
    assert isinstance(found, list)  # noqa: S101 (as _context makes it)
    rows = [(version, made_by(version)) for version in found]
    compared = _compared(request, found)
    return render(
        request, "frontend/dataset_versions.html", {**context, "rows": rows, "lineage": Lineage.of(found), **compared}
    )


def _context(request: HttpRequest, dataset_id: UUID) -> dict[str, object]:
    """Return what the head of all pages of a dataset needs.

    Raises: Http404: it is not the user's, or has no version of the number that is asked for.
    """
    found = get_object_or_404(Dataset.objects.visible_to(request.user), pk=dataset_id)
    all_versions = list(found.versions.select_related("parent").defer("report", "parent__report").order_by("-number"))
    newest = next(iter(all_versions), None)
    number = request.GET.get("version")
    version = next((item for item in all_versions if str(item.number) == number), None) if number else newest
    if number and version is None:
        raise Http404
    recent = all_versions[:RECENT_VERSIONS]
    if version is not None and version not in recent:
        recent = [*recent[:-1], version]
    return {
        "dataset": found,
        "versions": all_versions,
        "recent_versions": recent,
        "version": version,
        "is_newest": version == newest,
        "tabs": TABS,
    }


def _compared(request: HttpRequest, found: list[DatasetVersion]) -> Mapping[str, object]:
    """Return which two versions to compare: those that are asked for, else the newest with the one before it."""
    numbers = {version.number for version in found}
    asked = [int(text) if (text := request.GET.get(name, "")).isdecimal() else 0 for name in ("from", "to")]
    is_asked = set(asked) <= numbers
    if is_asked or len(found) < 2:
        return {"compare_from": asked[0], "compare_to": asked[1], "is_asked": is_asked}
    newest = found[0]
    before = newest.parent.number if newest.parent else found[1].number
    return {"compare_from": before, "compare_to": newest.number, "is_asked": False}
