"""The pages: server-rendered, and complete without a script but for the live log.

A page that stays up to date fetches itself again with ``?fragment=1``, which answers the changing part only, from the same
template: there is one renderer, and it escapes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlencode
from uuid import UUID

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.db.models import Count, Prefetch
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe

from frontend.rows import FILTERS, RunRow, find_run, list_runs, runs_with_nodes
from models_app.models import ModelVersion, RegisteredModel
from pipelines import events
from pipelines.events.read import read
from pipelines.models import Run


@require_safe
@never_cache
@login_required
def runs(request: HttpRequest) -> HttpResponse:
    """List the user's runs, newest first."""
    status, search = request.GET.get("status", ""), request.GET.get("search", "").strip()
    page = list_runs(request.user, status=status, search=search, before=request.GET.get("before", ""))
    kept = {name: value for name, value in (("status", status), ("search", search)) if value}
    context = {
        "page": page,
        "status": status,
        "search": search,
        "filters": list(FILTERS),
        "is_filtered": bool(kept or request.GET.get("before")),
        "older_query": urlencode({**kept, "before": page.older_than}) if page.older_than else "",
        "newest_query": urlencode(kept) if request.GET.get("before") else None,
    }
    template = "frontend/_runs.html" if "fragment" in request.GET else "frontend/runs.html"
    return render(request, template, context)


@require_safe
@never_cache
@login_required
@ensure_csrf_cookie
def run(request: HttpRequest, run_id: str) -> HttpResponse:
    """Show one run: its nodes, its results and its live log."""
    found = find_run(runs_with_nodes(request.user, with_outputs=True), run_id)
    template = "frontend/_run.html" if "fragment" in request.GET else "frontend/run.html"
    return render(request, template, {"row": RunRow.of(found), "run": found})


@require_safe
@login_required
def run_log(request: HttpRequest, run_id: str, extension: str) -> StreamingHttpResponse:
    """Send the log as it stands, as text or as one JSON object a line."""
    if extension not in ("txt", "jsonl"):
        raise Http404
    found = find_run(Run.objects.visible_to(request.user), run_id)
    content_type = "text/plain; charset=utf-8" if extension == "txt" else "application/x-ndjson"
    response = StreamingHttpResponse(_log_lines(found, extension), content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="{found.client_run_id or found.pk}.{extension}"'
    return response


async def _log_lines(run: Run, extension: str) -> AsyncIterator[str]:
    after = 0
    while after < run.last_seq and (page := await sync_to_async(read)(run.pk, after=after)):
        yield "".join(f"{event.text if extension == 'jsonl' else _text_line(event.json)}\n" for event in page)
        after = page[-1].seq


def _text_line(event: events.EventJson) -> str:
    numbers = {"step": event.get("step"), "loss": event.get("loss"), **event["data"]}
    details = " ".join(f"{name}={value}" for name, value in numbers.items() if value is not None)
    head = f"{event['seq']:>7} {event['timestamp']} {event['level']:<8} {event['node'] or '-'} {event['message']}"
    return f"{head}  {details}".rstrip()


@require_safe
@never_cache
@login_required
@ensure_csrf_cookie
def tokens(request: HttpRequest) -> HttpResponse:
    """List, make and revoke the user's API tokens."""
    found = request.user.api_tokens.filter(revoked_at__isnull=True).order_by("-created_at")
    template = "frontend/_tokens.html" if "fragment" in request.GET else "frontend/tokens.html"
    return render(request, template, {"tokens": found})


@require_safe
@login_required
def models(request: HttpRequest) -> HttpResponse:
    """List the user's models with their newest version."""
    newest = ModelVersion.objects.select_related("artifact").order_by("model_id", "-number").distinct("model_id")
    found = RegisteredModel.objects.visible_to(request.user).newest_first().annotate(version_count=Count("versions"))
    return render(
        request, "frontend/models.html", {"models": found.prefetch_related(Prefetch("versions", newest, to_attr="newest"))}
    )


@require_safe
@login_required
def model(request: HttpRequest, model_id: UUID) -> HttpResponse:
    """Show one model: its versions, their scores, the runs that made them and their files."""
    found = get_object_or_404(RegisteredModel.objects.visible_to(request.user), pk=model_id)
    versions = found.versions.select_related("artifact", "run", "parent").prefetch_related("evaluations").order_by("-number")
    return render(request, "frontend/model.html", {"model": found, "versions": versions})
