"""The page that shows a dataset's rows token by token, and the way to it from a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from celery_workers.modeling.bundled import BUNDLED
from datasets_app.models import Dataset
from datasets_app.tokens import DEFAULT_MODEL, OVER_LONG, TEMPLATES
from models_app.models import ModelVersion

if TYPE_CHECKING:
    from platform_site.models import User

MAX_MODELS = 50
KEPT_NAMES = ("custom_template", "train_on_roles", "system_prompt", "clean")
"""Options without a control of their own: what the address says is kept."""
CONFIG_NAMES = ("template", "custom_template", "train_on_roles", "system_prompt", "clean", "max_length_tokens", "over_long")
"""Options of preprocessing that a link from a run takes along."""


@require_safe
@login_required
def dataset_tokens(request: HttpRequest, dataset_id: UUID) -> HttpResponse:
    """Show the rows of a dataset token by token; the page's script asks the API for them."""
    found = get_object_or_404(Dataset.objects.visible_to(request.user), pk=dataset_id)
    versions = list(found.versions.defer("report").order_by("-number"))
    number = request.GET.get("version", "")
    context = {
        "dataset": found,
        "versions": versions,
        "version": next((version for version in versions if str(version.number) == number), next(iter(versions), None)),
        "row": request.GET.get("row", "1"),
        "model": request.GET.get("model") or DEFAULT_MODEL,
        "models": list(_known_models(request.user)),
        "template": request.GET.get("template", "model"),
        "templates": [name for name in TEMPLATES if name != "custom" or "custom_template" in request.GET],
        "over_long": request.GET.get("over_long", "drop"),
        "policies": OVER_LONG,
        "max_length_tokens": request.GET.get("max_length_tokens", ""),
        "kept": [(name, value) for name in KEPT_NAMES for value in request.GET.getlist(name)],
    }
    return render(request, "frontend/token_view.html", context)


def _known_models(user: User) -> Iterator[tuple[str, str]]:
    """Yield (reference, title) of the models whose tokens can be shown at once."""
    for name, model in BUNDLED.items():
        yield f"bundled:{name}", model.title
    kinds = (ModelVersion.Kind.BASE, ModelVersion.Kind.MERGED)
    versions = ModelVersion.objects.visible_to(user).filter(kind__in=kinds).select_related("model").newest_first()
    for version in versions[:MAX_MODELS]:
        yield f"model:{version.pk}", str(version)


def tokens_address(graph: Mapping[str, list[dict[str, object]]], node_name: str) -> str:
    """Return the address of the token view for a preprocessing node; empty where the graph's data is no single dataset."""
    nodes = graph.get("nodes", [])
    config = next((node.get("config") for node in nodes if node["agent_name"] == node_name), None)
    references = [
        str(source["file_path"])
        for node in nodes
        if node["agent_class"] == "DatasetAgent" and isinstance(source := node.get("config"), dict) and "file_path" in source
    ]
    if not isinstance(config, dict) or len(references) != 1 or not references[0].startswith("dataset:"):
        return ""
    dataset_id, _, number = references[0].removeprefix("dataset:").partition("@")
    query = {"version": number, "model": config.get("base_model"), **{name: config.get(name) for name in CONFIG_NAMES}}
    try:
        address = reverse("dataset-tokens-page", args=[UUID(dataset_id)])
    except ValueError:
        return ""
    return f"{address}?{urlencode({name: value for name, value in query.items() if value not in (None, '')}, doseq=True)}"
