"""Say what rows are: what was found in a file, a row format and columns to try, and the version that is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from celery_workers.data.mapping_choice import Choice, LookedAt, ShownRow, offers
from celery_workers.data.row_formats import RowFormat
from celery_workers.data.spellings import PARTS
from datasets_app.api.serializers import UploadedSerializer, VersionQuerySerializer, WaitingUploadSerializer
from datasets_app.api.version_serializers import MadeVersionSerializer
from datasets_app.api.views import find_version
from datasets_app.mapping import look_at_file, map_upload, map_version, try_choice
from datasets_app.models import WaitingUpload
from datasets_app.uploads import discard


class ChoiceSerializer(serializers.Serializer):
    """What the rows are."""

    row_format = serializers.ChoiceField(list(RowFormat), help_text="What must come of it.")
    columns = serializers.DictField(
        child=serializers.CharField(max_length=1000, trim_whitespace=False),
        allow_empty=False,
        help_text="Source column of each part: "
        + ", ".join(sorted(PARTS))
        + ". Columns that are not named are not trained on.",
    )

    def to_choice(self) -> Choice:
        """Return the choice."""
        return Choice(columns=self.validated_data["columns"], row_format=RowFormat(self.validated_data["row_format"]))


class VersionChoiceSerializer(ChoiceSerializer, VersionQuerySerializer):
    """What the rows of a version are."""


class OfferSerializer(serializers.Serializer):
    """A way of writing rows: the parts that it needs, and those that it may have."""

    name = serializers.CharField()
    row_format = serializers.CharField(source="format")
    required = serializers.ListField(child=serializers.CharField())
    optional = serializers.ListField(child=serializers.CharField())


class RowProblemSerializer(serializers.Serializer):
    """What a report would say of a row."""

    code = serializers.CharField()
    severity = serializers.CharField()
    field = serializers.CharField()
    message = serializers.CharField()


class KeptRowSerializer(serializers.Serializer):
    """A row as it would be kept."""

    row_number = serializers.IntegerField(source="number")
    messages = serializers.ListField(child=serializers.DictField(), help_text="role and content of each.")
    problems = RowProblemSerializer(many=True)


class FoundSerializer(serializers.Serializer):
    """What was found in a file. Where no format fits, ``row_format`` is null and ``reason`` says why."""

    file_name = serializers.CharField()
    file_format = serializers.CharField()
    row_format = serializers.CharField(allow_null=True)
    reason = serializers.CharField()
    sources = serializers.DictField(child=serializers.CharField(), help_text="Source column of each part that was found.")
    columns = serializers.ListField(child=serializers.DictField(), help_text='{"name", "type"} of each.')
    raw_rows = serializers.ListField(child=serializers.DictField(), help_text="The first rows as they are in the file.")
    rows = KeptRowSerializer(many=True, help_text="The first rows as they are or would be kept.")
    offers = OfferSerializer(many=True, help_text="What can be chosen.")


class ColumnsView(APIView):
    """The columns of a version."""

    @extend_schema(operation_id="datasets_columns_get", parameters=[VersionQuerySerializer], responses=FoundSerializer)
    def get(self, request: Request, id: UUID) -> Response:
        """Return what was found in the version's file: columns, row format and why, and the first rows."""
        query = VersionQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        version = find_version(request, id, query.validated_data.get("version"))
        return Response(_found(version.file_name, version.file_format, look_at_file(version)))

    @extend_schema(
        operation_id="datasets_columns_map",
        request=VersionChoiceSerializer,
        responses={201: MadeVersionSerializer, 200: MadeVersionSerializer},
    )
    def post(self, request: Request, id: UUID) -> Response:
        """Keep the rows under another row format as a new version; the version itself stays as it is.

        200 instead of 201: a version with that content exists already, and is the answer.
        """
        body = VersionChoiceSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        version = find_version(request, id, body.validated_data.get("version"))
        made = map_version(version, body.to_choice())
        answer = MadeVersionSerializer(made.version).data
        return Response(answer, status=status.HTTP_201_CREATED if made.created else status.HTTP_200_OK)


class ColumnsPreviewView(APIView):
    """A choice of columns, tried."""

    @extend_schema(operation_id="datasets_columns_preview", request=VersionChoiceSerializer, responses=FoundSerializer)
    def post(self, request: Request, id: UUID) -> Response:
        """Return the first rows as this choice would have them kept; nothing is stored."""
        body = VersionChoiceSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        version = find_version(request, id, body.validated_data.get("version"))
        return Response(_found(version.file_name, version.file_format, try_choice(version, body.to_choice())))


class WaitingUploadsView(generics.ListAPIView):
    """Files of the user that wait for a mapping, newest first."""

    serializer_class = WaitingUploadSerializer
    queryset = WaitingUpload.objects.none()

    @extend_schema(operation_id="datasets_uploads_list")
    def get(self, request: Request, *args: object, **kwargs: object) -> Response:
        """List files whose rows fit no format by themselves; the oldest of more than 20 goes."""
        self.queryset = WaitingUpload.objects.visible_to(request.user)
        return super().get(request, *args, **kwargs)


class WaitingUploadView(APIView):
    """A file that waits for a mapping."""

    @extend_schema(operation_id="datasets_uploads_get", responses=WaitingUploadSerializer)
    def get(self, request: Request, id: UUID) -> Response:
        """Return what is known of the file."""
        return Response(WaitingUploadSerializer(_find_upload(request, id)).data)

    @extend_schema(operation_id="datasets_uploads_discard", responses={204: None})
    def delete(self, request: Request, id: UUID) -> Response:
        """Remove the file."""
        discard(_find_upload(request, id))
        return Response(status=status.HTTP_204_NO_CONTENT)


class UploadColumnsView(APIView):
    """The columns of a file that waits."""

    @extend_schema(operation_id="datasets_uploads_columns_get", responses=FoundSerializer)
    def get(self, request: Request, id: UUID) -> Response:
        """Return what was found in the file: columns, why no row format fits, and the first rows."""
        waiting = _find_upload(request, id)
        return Response(_found(waiting.file_name, waiting.file_format, look_at_file(waiting)))

    @extend_schema(operation_id="datasets_uploads_columns_map", request=ChoiceSerializer, responses={201: UploadedSerializer})
    def post(self, request: Request, id: UUID) -> Response:
        """Make the file a version of the dataset that it was uploaded for."""
        body = ChoiceSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        made = map_upload(_find_upload(request, id), body.to_choice())
        return Response(UploadedSerializer(made.version).data, status=status.HTTP_201_CREATED)


class UploadColumnsPreviewView(APIView):
    """A choice of columns of a file that waits, tried."""

    @extend_schema(operation_id="datasets_uploads_columns_preview", request=ChoiceSerializer, responses=FoundSerializer)
    def post(self, request: Request, id: UUID) -> Response:
        """Return the first rows as this choice would have them kept; nothing is stored."""
        body = ChoiceSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        waiting = _find_upload(request, id)
        return Response(_found(waiting.file_name, waiting.file_format, try_choice(waiting, body.to_choice())))


def _find_upload(request: Request, upload_id: UUID) -> WaitingUpload:
    return get_object_or_404(WaitingUpload.objects.visible_to(request.user).select_related("owner"), pk=upload_id)


def _found(file_name: str, file_format: str, looked_at: LookedAt) -> Mapping[str, object]:
    detected, refusal = looked_at.detected, looked_at.refusal
    found = {
        "file_name": file_name,
        "file_format": file_format,
        "row_format": detected.format.value if detected else None,
        "reason": detected.reason if detected else refusal.message if refusal else "",
        "sources": dict(detected.sources) if detected else {},
        "columns": looked_at.columns,
        "raw_rows": looked_at.raw,
        "rows": [_kept(row) for row in looked_at.rows],
        "offers": offers(),
    }
    return FoundSerializer(found).data


def _kept(row: ShownRow) -> dict[str, object]:
    return {
        "number": row.number,
        "messages": row.messages,
        "problems": [problem.as_json() for problem in row.problems],
    }
