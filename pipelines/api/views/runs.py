"""How the views of a run find it."""

from __future__ import annotations

from django.db.models import Prefetch, QuerySet
from django.http import Http404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from pipelines.models import NodeRun, Run

RUN_PARAMETER = OpenApiParameter(
    "id", OpenApiTypes.STR, OpenApiParameter.PATH, description="The run's id, or your own run_id for it."
)
RUN_ID_PARAMETER = OpenApiParameter(
    "run_id", OpenApiTypes.STR, OpenApiParameter.PATH, description="The run's id, or your own run_id for it."
)


def find_run(request: Request, reference: str, runs: QuerySet[Run] | None = None) -> Run:
    """Return the user's run that ``reference`` names.

    Raises: Http404: there is none, or it is someone else's.
    """
    visible = (Run.objects.all() if runs is None else runs).visible_to(request.user)
    run = visible.referred_to_as(reference).first()
    if run is None:
        raise Http404
    return run


def runs_with_nodes() -> QuerySet[Run]:
    """Return runs with what their answers need, in a few queries for any number of them."""
    attempts = NodeRun.objects.prefetch_related("outputs__artifact")
    return Run.objects.select_related("version").prefetch_related(Prefetch("node_runs", queryset=attempts))
