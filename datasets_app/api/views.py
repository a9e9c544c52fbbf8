"""Upload a dataset, list datasets, look at their rows and at what was found in them."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpRequest
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics, status
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from celery_workers.data.formats import FileFormat
from datasets_app.api.serializers import (
    DatasetDetailSerializer,
    DatasetSerializer,
    PreviewQuerySerializer,
    PreviewSerializer,
    UploadedSerializer,
    UploadSerializer,
    VersionQuerySerializer,
    WaitingUploadSerializer,
)
from datasets_app.models import Dataset, DatasetVersion, WaitingUpload
from datasets_app.preview import read_page
from datasets_app.services import import_upload
from datasets_app.uploads import import_or_keep


class UploadView(APIView):
    """The door for data."""

    parser_classes = (MultiPartParser,)

    def initialize_request(self, request: HttpRequest, *args: object, **kwargs: object) -> Request:
        """Let every upload go to a temporary file, however small; before anything reads the body."""
        request.upload_handlers = [TemporaryFileUploadHandler(request)]
        return super().initialize_request(request, *args, **kwargs)

    @extend_schema(
        operation_id="datasets_upload",
        request={"multipart/form-data": UploadSerializer},
        responses={201: UploadedSerializer, 202: WaitingUploadSerializer},
    )
    def post(self, request: Request) -> Response:
        """Upload a CSV, TSV, JSON, JSON Lines, Parquet, text or Markdown file, or one of these compressed with gzip or zstd:
        the first or next version of the dataset of that name.

        Every row is checked; the report names what is wrong with which. The same content under the same name again gives
        the version that holds it, and stores nothing. With ``keep``, a file whose rows fit no format is kept until its
        columns are mapped, and the answer is 202.
        """
        body = UploadSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        bring = import_or_keep if asked["keep"] else import_upload
        imported = bring(
            user=request.user,
            upload=asked["file"],
            name=asked.get("name") or Path(asked["file"].name).stem[:200],
            file_format=None if asked["format"] == "auto" else FileFormat(asked["format"]),
            mapping=asked.get("columns"),
        )
        if isinstance(imported, WaitingUpload):
            return Response(WaitingUploadSerializer(imported).data, status=status.HTTP_202_ACCEPTED)
        return Response(UploadedSerializer(imported.version).data, status=status.HTTP_201_CREATED)


@extend_schema_view(get=extend_schema(operation_id="datasets_list"))
class DatasetsView(generics.ListAPIView):
    """The user's datasets, newest first."""

    serializer_class = DatasetSerializer

    def get_queryset(self) -> QuerySet[Dataset]:
        """Return the user's own datasets with their newest versions."""
        return Dataset.objects.visible_to(self.request.user).prefetch_related(_versions())


@extend_schema_view(get=extend_schema(operation_id="datasets_get"))
class DatasetView(generics.RetrieveAPIView):
    """One dataset with its versions."""

    serializer_class = DatasetDetailSerializer
    lookup_field = "id"

    def get_queryset(self) -> QuerySet[Dataset]:
        """Return the user's own datasets."""
        return Dataset.objects.visible_to(self.request.user).prefetch_related(_versions())


class PreviewView(APIView):
    """Rows of a dataset."""

    @extend_schema(operation_id="datasets_preview", parameters=[PreviewQuerySerializer], responses=PreviewSerializer)
    def get(self, request: Request, id: UUID) -> Response:
        """Return rows as they stand in the file."""
        query = PreviewQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        version = find_version(request, id, query.validated_data.get("version"))
        offset = query.validated_data["offset"]
        page = read_page(version, offset=offset, limit=query.validated_data["limit"])
        answer = {
            "version": version.number, "offset": offset, "total": version.rows, "next_offset": page.next_offset,
            "columns": version.columns, "rows": page.rows,
        }  # fmt: skip
        return Response(answer)


class ReportView(APIView):
    """What was found in a dataset."""

    @extend_schema(operation_id="datasets_report", parameters=[VersionQuerySerializer], responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, id: UUID) -> Response:
        """Return the validation report: counts by code, and row number, field, message and fix of each problem."""
        query = VersionQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        return Response(find_version(request, id, query.validated_data.get("version")).report)


def _versions() -> Prefetch:
    return Prefetch("versions", queryset=DatasetVersion.objects.defer("report").select_related("parent").order_by("-number"))


def find_version(request: Request, dataset_id: UUID, number: int | None) -> DatasetVersion:
    """Return a version of the user's dataset, the newest where no number is given.

    Raises: Http404: there is none.
    """
    versions = DatasetVersion.objects.visible_to(request.user).filter(dataset=dataset_id).order_by("-number")
    version = versions.filter(number=number).first() if number else versions.first()
    if version is None:
        raise Http404
    return version
