"""The registry over REST: list, look at, download, card."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpResponse, HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from models_app.cards import write_card
from models_app.comparing import side_by_side
from models_app.models import ModelVersion, RegisteredModel
from models_app.serializers import (
    CompareQuerySerializer,
    DownloadQuerySerializer,
    ModelFilterSerializer,
    ModelVersionSerializer,
    RegisteredModelSerializer,
    SideBySideSerializer,
)
from models_app.services import download_name, find_export, find_file
from platform_site.common.downloads import send_stored
from platform_site.common.negotiation import AnyAccept

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from platform_site.models import User


class ModelsView(generics.ListAPIView):
    """All models, newest first."""

    serializer_class = RegisteredModelSerializer

    def get_queryset(self) -> QuerySet[RegisteredModel]:
        """Return the user's models that the query asks for."""
        query = ModelFilterSerializer(data=self.request.query_params)
        query.is_valid(raise_exception=True)
        models = RegisteredModel.objects.visible_to(self.request.user)
        versions = ModelVersion.objects.select_related("artifact").order_by("-number")
        if kind := query.validated_data.get("kind"):
            versions = versions.filter(kind=kind)
            models = models.filter(pk__in=versions.order_by().values("model_id"))
        if search := query.validated_data.get("search"):
            models = models.filter(name__icontains=search)
        return models.prefetch_related(Prefetch("versions", versions))

    @extend_schema(operation_id="models_list", parameters=[ModelFilterSerializer])
    def get(self, request: Request) -> Response:
        """List models with their versions."""
        return self.list(request)


class ModelView(APIView):
    """One version of a model."""

    @extend_schema(operation_id="models_get", responses=ModelVersionSerializer)
    def get(self, request: Request, id: UUID) -> Response:
        """Show a version with its lineage, scores and files. The id is a version's, from the list of models."""
        version = _find_version(request.user, id)
        return Response(ModelVersionSerializer(version, context={"request": request}).data)


class ModelCompareView(APIView):
    """Versions side by side."""

    @extend_schema(operation_id="models_compare", parameters=[CompareQuerySerializer], responses=SideBySideSerializer)
    def get(self, request: Request) -> Response:
        """Set versions side by side: where their settings differ, and what was measured of them on the same rows."""
        query = CompareQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        versions = [_find_version(request.user, id) for id in query.validated_data["ids"]]
        return Response(SideBySideSerializer(side_by_side(versions, request.user)).data)


class ModelDownloadView(APIView):
    """The weights of one version."""

    content_negotiation_class = AnyAccept

    @extend_schema(
        operation_id="models_download",
        parameters=[
            DownloadQuerySerializer,
            OpenApiParameter("Range", str, OpenApiParameter.HEADER, description="One range of bytes, with ``file``."),
        ],
        responses={
            (200, "application/zip"): OpenApiResponse(OpenApiTypes.BINARY, "The whole folder."),
            (200, "application/octet-stream"): OpenApiResponse(OpenApiTypes.BINARY, "One file of it."),
            (206, "application/octet-stream"): OpenApiResponse(OpenApiTypes.BINARY, "A range of one file."),
        },
    )
    def get(self, request: Request, id: UUID) -> HttpResponseBase:
        """Download a version as a zip of its folder, or one file of it."""
        query = DownloadQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        version = _find_version(request.user, id)
        found, artifact = find_export(version, query.validated_data.get("format", version.kind))
        if path := query.validated_data.get("file"):
            return send_stored(request, find_file(artifact, path), name=path.rpartition("/")[2])
        return send_stored(request, artifact, name=download_name(found))


class ModelCardView(APIView):
    """What a version is, where it comes from and how good it is, to read."""

    content_negotiation_class = AnyAccept

    @extend_schema(operation_id="models_card", responses={(200, "text/markdown"): OpenApiTypes.STR})
    def get(self, request: Request, id: UUID) -> HttpResponse:
        """Write the card of a version as Markdown with a metadata block."""
        version = _find_version(request.user, id)
        return HttpResponse(write_card(version, request.user), content_type="text/markdown; charset=utf-8")


def _find_version(user: User | AnonymousUser, id: UUID) -> ModelVersion:
    related = ("model", "artifact__node_run", "parent__model", "parent__artifact", "run__version")
    version: ModelVersion | None = ModelVersion.objects.visible_to(user).select_related(*related).filter(pk=id).first()
    if version is None:
        raise Http404
    return version
