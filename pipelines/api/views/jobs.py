"""Runs: start, list, look at, cancel, retry."""

from __future__ import annotations

from django.db.models import Q, QuerySet
from django.http import Http404
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pipelines import services
from pipelines.api.nodes import progress_of
from pipelines.api.serializers.jobs import (
    JobCreatedSerializer,
    JobFilterSerializer,
    JobRequestSerializer,
    JobSerializer,
    ProgressSerializer,
)
from pipelines.api.views.runs import RUN_PARAMETER, find_run, runs_with_nodes
from pipelines.models import PipelineVersion, Run
from platform_site.common.errors import InvalidInput, Problem

IDEMPOTENCY_KEY_MAX_CHARACTERS = 200

_GRAPH_EXAMPLE = {
    "run_id": "abc123",
    "nodes": [
        {
            "agent_name": "dataset",
            "agent_class": "DatasetAgent",
            "config": {"file_path": "s3://datasets/training_data.csv", "format": "csv"},
        },
        {"agent_name": "validation", "agent_class": "ValidationAgent", "config": {}},
        {
            "agent_name": "preprocessing",
            "agent_class": "PreprocessingAgent",
            "config": {"base_model": "bundled:smollm2-135m-instruct", "clean": True, "dedup": True, "template": "alpaca"},
        },
    ],
    "edges": [
        {"from_agent": "dataset", "to_agent": "validation"},
        {"from_agent": "validation", "to_agent": "preprocessing"},
    ],
}
_EXAMPLES = [
    OpenApiExample("A graph", value=_GRAPH_EXAMPLE, request_only=True),
    OpenApiExample(
        "A stored pipeline",
        value={"pipeline": "5f0c4f4e-8d3c-4c1b-9d53-0d6f5a1f7d11", "version": 3, "name": "nightly"},
        request_only=True,
    ),
]
_IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER, description="A second request with the same key and body starts nothing."
)


class JobsView(generics.ListAPIView):
    """All runs, newest first, and the place where new ones start."""

    serializer_class = JobSerializer

    def get_queryset(self) -> QuerySet[Run]:
        """Return the user's runs that the query asks for."""
        runs = runs_with_nodes().visible_to(self.request.user)
        query = JobFilterSerializer(data=self.request.query_params)
        query.is_valid(raise_exception=True)
        if statuses := query.validated_data.get("status"):
            runs = runs.filter(status__in=statuses)
        if search := query.validated_data.get("search"):
            runs = runs.filter(Q(name__icontains=search) | Q(client_run_id__icontains=search))
        return runs

    @extend_schema(operation_id="jobs_list", parameters=[JobFilterSerializer])
    def get(self, request: Request) -> Response:
        """List runs, newest first."""
        return self.list(request)

    @extend_schema(
        operation_id="jobs_start",
        parameters=[_IDEMPOTENCY_KEY],
        request=JobRequestSerializer,
        responses={201: JobCreatedSerializer},
        examples=_EXAMPLES,
    )
    def post(self, request: Request) -> Response:
        """Start a run. The same Idempotency-Key and body again give the same run and the same answer, and start nothing."""
        body = JobRequestSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        started = services.start_run(
            user=request.user, idempotency_key=_idempotency_key(request), **start_values(request, body)
        )
        answer = JobCreatedSerializer(started.run, context={"request": request}).data
        return Response(answer, status=status.HTTP_201_CREATED, headers={"Location": answer["links"]["self"]})


class JobView(APIView):
    """One run."""

    @extend_schema(operation_id="jobs_get", parameters=[RUN_PARAMETER], responses=JobSerializer)
    def get(self, request: Request, id: str) -> Response:
        """Show a run with its nodes and their outputs."""
        return Response(JobSerializer(find_run(request, id, runs_with_nodes())).data)

    @extend_schema(operation_id="jobs_cancel", parameters=[RUN_PARAMETER], responses={202: JobCreatedSerializer})
    def delete(self, request: Request, id: str) -> Response:
        """Ask for cancel: nodes stop within a step, save what they have, and the run becomes canceled."""
        return _accepted(request, services.cancel_run(run=find_run(request, id), user=request.user))


class JobRetryView(APIView):
    """What failed, again."""

    @extend_schema(operation_id="jobs_retry", parameters=[RUN_PARAMETER], request=None, responses={202: JobCreatedSerializer})
    def post(self, request: Request, id: str) -> Response:
        """Run the nodes that failed or were canceled again, from their checkpoints; 409 if the run has not ended so."""
        return _accepted(request, services.retry_run(run=find_run(request, id), user=request.user))


class JobProgressView(APIView):
    """How far one run is."""

    @extend_schema(operation_id="jobs_progress", parameters=[RUN_PARAMETER], responses=ProgressSerializer)
    def get(self, request: Request, id: str) -> Response:
        """Show how far a run and each of its nodes is."""
        return Response(progress_of(find_run(request, id, Run.objects.select_related("version"))))


def _accepted(request: Request, run: Run) -> Response:
    return Response(JobCreatedSerializer(run, context={"request": request}).data, status=status.HTTP_202_ACCEPTED)


def start_values(request: Request, body: JobRequestSerializer) -> dict[str, object]:
    """Return the arguments of ``start_run`` that the body names."""
    given = dict(body.validated_data)
    values: dict[str, object] = {"client_run_id": given.pop("run_id", None)}
    if "nodes" in given:
        values["graph"] = {"nodes": given.pop("nodes"), "edges": given.pop("edges", [])}
    else:
        values["version"] = _find_version(request, given.pop("pipeline"), given.pop("version", None))
    return values | given


def _find_version(request: Request, pipeline_id: object, number: int | None) -> PipelineVersion:
    versions = PipelineVersion.objects.visible_to(request.user).filter(pipeline_id=pipeline_id)
    found = (versions.filter(number=number) if number else versions.order_by("-number")).first()
    if found is None:
        raise Http404
    return found


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("Idempotency-Key") or None
    if key and len(key) > IDEMPOTENCY_KEY_MAX_CHARACTERS:
        message = f"must have at most {IDEMPOTENCY_KEY_MAX_CHARACTERS} characters, got {len(key)}"
        raise InvalidInput(f"Idempotency-Key {message}.", errors=[Problem(field="Idempotency-Key", message=message)])
    return key
