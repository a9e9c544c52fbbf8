"""Pipelines: drafts that lose no edit, immutable versions, validation, and a gallery to begin with."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Count, QuerySet
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pipelines import drafts, gallery
from pipelines.api.serializers.pipelines import (
    FreezeSerializer,
    PipelineCreateSerializer,
    PipelineDetailSerializer,
    PipelineSaveSerializer,
    PipelineSerializer,
    PipelineVersionDetailSerializer,
    PipelineVersionSerializer,
    ProblemsSerializer,
    StaleEditSerializer,
    TemplateSerializer,
    ValidateSerializer,
)
from pipelines.models import Pipeline, PipelineVersion
from pipelines.services import validate_pipeline


class PipelinesView(generics.ListAPIView):
    """All pipelines, newest first, and the place where new ones are made."""

    serializer_class = PipelineSerializer

    def get_queryset(self) -> QuerySet[Pipeline]:
        """Return the user's pipelines."""
        return _pipelines(self.request)

    @extend_schema(operation_id="pipelines_list")
    def get(self, request: Request) -> Response:
        """List pipelines, newest first."""
        return self.list(request)

    @extend_schema(operation_id="pipelines_create", request=PipelineCreateSerializer, responses={201: PipelineDetailSerializer})
    def post(self, request: Request) -> Response:
        """Make a pipeline. Its draft may be unfinished; nothing of it runs."""
        body = PipelineCreateSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        made = drafts.create_pipeline(user=request.user, **body.validated_data)
        return Response(_detail(request, made.pk), status=status.HTTP_201_CREATED)


class PipelineView(APIView):
    """One pipeline and its draft."""

    @extend_schema(operation_id="pipelines_get", responses=PipelineDetailSerializer)
    def get(self, request: Request, id: UUID) -> Response:
        """Show a pipeline with its draft."""
        return Response(_detail(request, id))

    @extend_schema(
        operation_id="pipelines_save",
        request=PipelineSaveSerializer,
        responses={200: PipelineDetailSerializer, 409: StaleEditSerializer},
    )
    def put(self, request: Request, id: UUID) -> Response:
        """Save an edit. 409 if somebody saved in between: nothing is changed, and the answer has what is there now."""
        body = PipelineSaveSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        try:
            drafts.save_draft(pipeline=_find(request, id), **body.validated_data)
        except drafts.StaleEdit as error:
            return _stale(request, error)
        return Response(_detail(request, id))

    @extend_schema(operation_id="pipelines_delete", responses={204: None})
    def delete(self, request: Request, id: UUID) -> Response:
        """Throw a pipeline away; its runs stay."""
        drafts.throw_away(pipeline=_find(request, id))
        return Response(status=status.HTTP_204_NO_CONTENT)


class VersionsView(generics.ListAPIView):
    """The immutable versions of one pipeline."""

    serializer_class = PipelineVersionSerializer

    def get_queryset(self) -> QuerySet[PipelineVersion]:
        """Return the versions of the pipeline that the address names."""
        return _find(self.request, self.kwargs["id"]).versions.all()

    @extend_schema(operation_id="pipeline_versions_list")
    def get(self, request: Request, id: UUID) -> Response:  # noqa: ARG002 (read from kwargs)
        """List a pipeline's versions, newest first."""
        return self.list(request)

    @extend_schema(
        operation_id="pipeline_versions_create",
        request=FreezeSerializer,
        responses={201: PipelineVersionDetailSerializer, 409: StaleEditSerializer},
    )
    def post(self, request: Request, id: UUID) -> Response:
        """Freeze the draft into a version. An unchanged draft gives the version that there is; one that cannot run, 400."""
        body = FreezeSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        try:
            version = drafts.freeze_draft(pipeline=_find(request, id), **body.validated_data)
        except drafts.StaleEdit as error:
            return _stale(request, error)
        return Response(PipelineVersionDetailSerializer(version).data, status=status.HTTP_201_CREATED)


class VersionView(APIView):
    """One immutable version."""

    @extend_schema(operation_id="pipeline_versions_get", responses=PipelineVersionDetailSerializer)
    def get(self, request: Request, id: UUID, number: int) -> Response:
        """Show a version with its graph; to restore it, save the graph as the draft."""
        version = _find(request, id).versions.filter(number=number).first()
        if version is None:
            raise Http404
        return Response(PipelineVersionDetailSerializer(version).data)


class ValidateView(APIView):
    """Whether a graph could run."""

    @extend_schema(operation_id="pipelines_validate", request=ValidateSerializer, responses=ProblemsSerializer)
    def post(self, request: Request) -> Response:
        """Return every problem by node and field that starting this graph would meet. Stores nothing."""
        body = ValidateSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        problems = validate_pipeline(user=request.user, graph=body.validated_data)
        return Response({"problems": [problem.as_json() for problem in problems]})


class TemplatesView(APIView):
    """The gallery."""

    @extend_schema(operation_id="pipelines_templates", responses=TemplateSerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002 (the same for everybody)
        """List pipelines to begin with; each runs as it is on the bundled example."""
        return Response(TemplateSerializer(gallery.templates(), many=True).data)


def _pipelines(request: Request) -> QuerySet[Pipeline]:
    return Pipeline.objects.visible_to(request.user).kept().annotate(version_count=Count("versions"))


def _find(request: Request, pipeline_id: UUID) -> Pipeline:
    pipeline = _pipelines(request).filter(pk=pipeline_id).first()
    if pipeline is None:
        raise Http404
    return pipeline


def _detail(request: Request, pipeline_id: UUID) -> dict[str, object]:
    return PipelineDetailSerializer(_find(request, pipeline_id)).data


def _stale(request: Request, error: drafts.StaleEdit) -> Response:
    answer = {"code": error.error_code, "detail": error.detail, "errors": [], "current": _detail(request, error.pipeline.pk)}
    return Response(answer, status=error.status)
