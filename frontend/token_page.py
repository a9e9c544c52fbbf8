"""The page that shows a dataset's rows token by token, and the way to it from a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from celery_workers import data
from celery_workers.modeling.bundled import BUNDLED
from datasets_app.models import Dataset
from datasets_app.token_options import Option, options
from datasets_app.tokens import DEFAULT_MODEL
from models_app.models import ModelVersion

if TYPE_CHECKING:
    from platform_site.models import User

MAX_MODELS = 50
FIRST_NAMES = ("template", "max_length_tokens", "over_long")
"""Options that are always in sight; the others can be folded away."""
EXAMPLE_TEMPLATE = Path(data.__file__).parent / "chat_templates" / "chatml.jinja"
"""What a custom template begins with."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """An option with what the page's address says of it."""

    option: Option
    values: list[str]

    @property
    def text(self) -> str:
        """What stands in a field of text."""
        return ", ".join(self.values)

    @property
    def is_on(self) -> bool:
        """Whether a switch is on."""
        return self.text == "true"

    @property
    def is_default(self) -> bool:
        """Whether it is what the agent would take without being told."""
        return self.values == _default_values(self.option)


@require_safe
@login_required
def dataset_tokens(request: HttpRequest, dataset_id: UUID) -> HttpResponse:
    """Show the rows of a dataset token by token; the page's script asks the API for them."""
    found = get_object_or_404(Dataset.objects.visible_to(request.user), pk=dataset_id)
    versions = list(found.versions.defer("report").order_by("-number"))
    number = request.GET.get("version", "")
    fields = [Field(option=option, values=request.GET.getlist(option.name) or _default_values(option)) for option in options()]
    more = [field for field in fields if field.option.name not in (*FIRST_NAMES, "custom_template")]
    context = {
        "dataset": found,
        "versions": versions,
        "version": next((version for version in versions if str(version.number) == number), next(iter(versions), None)),
        "row": request.GET.get("row", "1"),
        "model": request.GET.get("model") or DEFAULT_MODEL,
        "models": list(known_models(request.user)),
        "first_fields": [field for field in fields if field.option.name in FIRST_NAMES],
        "custom": next(field for field in fields if field.option.name == "custom_template"),
        "example_template": EXAMPLE_TEMPLATE.read_text(encoding="utf-8"),
        "more_fields": more,
        "are_more_changed": not all(field.is_default for field in more),
    }
    return render(request, "frontend/token_view.html", context)


def _default_values(option: Option) -> list[str]:
    if isinstance(option.default, list):
        return [str(value) for value in option.default]
    if isinstance(option.default, bool):
        return [str(option.default).lower()]
    return [] if option.default in (None, "") else [str(option.default)]


def known_models(user: User) -> Iterator[tuple[str, str]]:
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
    query = {
        "version": number,
        "model": config.get("base_model"),
        **{option.name: config.get(option.name) for option in options()},
    }
    try:
        address = reverse("dataset-tokens-page", args=[UUID(dataset_id)])
    except ValueError:
        return ""
    given = {name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items()}
    return f"{address}?{urlencode({name: value for name, value in given.items() if value not in (None, '', [])}, doseq=True)}"
