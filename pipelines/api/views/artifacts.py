"""Artifacts: what they are, where they come from, and their bytes."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Prefetch
from django.http import Http404, HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pipelines.api.serializers.artifacts import ArtifactSerializer
from pipelines.models import Artifact
from platform_site.common.downloads import send_stored
from platform_site.common.negotiation import AnyAccept


class ArtifactView(APIView):
    """One artifact."""

    @extend_schema(operation_id="artifacts_get", responses=ArtifactSerializer)
    def get(self, request: Request, id: UUID) -> Response:
        """Show an artifact with its lineage up and down."""
        visible = Artifact.objects.visible_to(request.user)
        lineage = [Prefetch(name, queryset=visible.newest_first()) for name in ("parents", "children")]
        artifact = visible.select_related("node_run").prefetch_related(*lineage).filter(pk=id).first()
        if artifact is None:
            raise Http404
        return Response(ArtifactSerializer(artifact, context={"request": request}).data)


class ArtifactDownloadView(APIView):
    """The bytes of one artifact."""

    content_negotiation_class = AnyAccept

    @extend_schema(
        operation_id="artifacts_download",
        parameters=[OpenApiParameter("Range", str, OpenApiParameter.HEADER, description="One range of bytes.")],
        responses={
            (200, "application/octet-stream"): OpenApiResponse(OpenApiTypes.BINARY, "The file."),
            (200, "application/zip"): OpenApiResponse(OpenApiTypes.BINARY, "A folder."),
            (200, "application/json"): OpenApiResponse(OpenApiTypes.OBJECT, "A report."),
            (206, "application/octet-stream"): OpenApiResponse(OpenApiTypes.BINARY, "The range asked for."),
        },
    )
    def get(self, request: Request, id: UUID) -> HttpResponseBase:
        """Download an artifact: a file with range support, a folder as a zip, a report as JSON."""
        artifact = Artifact.objects.visible_to(request.user).filter(pk=id).first()
        if artifact is None:
            raise Http404
        if artifact.kind == Artifact.Kind.REPORT:
            return send_stored(request, artifact, name=artifact.name, content_type="application/json")
        return send_stored(request, artifact, name=artifact.name)
