"""Import data from the Hub or a bucket: ask for it, follow it, forget it."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_view
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from celery_workers.data.formats import FileFormat
from datasets_app.api.serializers import FILE_FORMATS, UploadSerializer
from datasets_app.imports import request_import
from datasets_app.models import DatasetImport

_TEXTS = ("revision", "subset", "split", "file")


class ImportSerializer(serializers.Serializer):
    """Where the data are: a ``repository`` of the Hub, or the ``address`` of an object in a bucket; never both."""

    repository = serializers.CharField(required=False, max_length=200, help_text="Dataset of the Hub, as owner/name.")
    revision = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=200,
        help_text="Branch, tag or commit; the main branch, if left out. refs/convert/parquet: what the Hub made of it. "
        "Whatever it is, it is pinned to the commit that it names now.",
    )
    subset = serializers.CharField(
        required=False, allow_blank=True, max_length=200, help_text="Configuration; the default or only one, if left out."
    )
    split = serializers.CharField(
        required=False, allow_blank=True, max_length=200, help_text="Such as train; the only one, if left out."
    )
    file = serializers.CharField(
        required=False, allow_blank=True, max_length=1000, help_text="One file of the repository, instead of a split."
    )
    address = serializers.RegexField(
        r"^s3://[^/]+/.+$", required=False, max_length=1000, help_text="s3://bucket/key in one of the buckets of the platform."
    )
    name = serializers.CharField(
        max_length=200, required=False, allow_blank=True, help_text="Name of the dataset; made of the source's, if left out."
    )
    format = serializers.ChoiceField(FILE_FORMATS, default="auto", help_text="Format of the file; auto goes by its content.")
    columns = serializers.DictField(
        child=serializers.CharField(max_length=1000, trim_whitespace=False),
        required=False,
        help_text="Column of the file for each part of a row, where no row format fits the names.",
    )

    def validate_columns(self, columns: object) -> dict[str, str]:
        """Take what an upload takes."""
        return UploadSerializer().validate_columns(columns)

    def validate(self, body: dict[str, object]) -> dict[str, object]:
        """Take one source, and nothing that does not belong to it."""
        if ("repository" in body) == ("address" in body):
            raise serializers.ValidationError({"repository": "name either a repository of the Hub or the address of an object"})
        if "address" in body and (extra := [name for name in _TEXTS if body.get(name)]):
            raise serializers.ValidationError({extra[0]: f"{extra[0]} goes with a repository, not with an address"})
        if body.get("file") and (extra := [name for name in ("subset", "split") if body.get(name)]):
            raise serializers.ValidationError({"file": f"file takes the place of {' and '.join(extra)}; leave one of them out"})
        return body

    def asked_source(self) -> dict[str, str]:
        """Return what is kept of it."""
        body = self.validated_data
        if "address" in body:
            return {"type": "s3", "address": body["address"]}
        return {"type": "hub", "repository": body["repository"], **{name: body.get(name, "") for name in _TEXTS}}


class ImportErrorSerializer(serializers.Serializer):
    """Why it failed, or waits to be tried again."""

    code = serializers.CharField()
    detail = serializers.CharField(source="reason")


class ImportVersionSerializer(serializers.Serializer):
    """The version that was made; a pipeline refers to it as ``reference``."""

    id = serializers.UUIDField(source="dataset_id", help_text="The dataset's.")
    version = serializers.IntegerField(source="number")
    rows = serializers.IntegerField()
    reference = serializers.SerializerMethodField()

    def get_reference(self, version: object) -> str:
        """Return what a config's ``file_path`` takes."""
        return f"dataset:{version.dataset_id}@{version.number}"  # type: ignore[attr-defined]


class ImportStateSerializer(serializers.ModelSerializer):
    """An import. ``origin`` is what its source turned out to be: repository, commit, subset, split and files with digests."""

    total_bytes = serializers.IntegerField(allow_null=True, help_text="Null until the source has been asked.")
    error = serializers.SerializerMethodField()
    version = ImportVersionSerializer(allow_null=True)
    links = serializers.SerializerMethodField()

    class Meta:
        model = DatasetImport
        fields = [
            "id", "name", "source", "origin", "status", "attempt", "done_bytes", "total_bytes", "error", "version",
            "created_at", "started_at", "finished_at", "links",
        ]  # fmt: skip

    @extend_schema_field(ImportErrorSerializer(allow_null=True))
    def get_error(self, found: DatasetImport) -> dict[str, str] | None:
        """Return why it failed or is tried again; null where nothing went wrong."""
        return dict(ImportErrorSerializer(found).data) if found.code else None

    @extend_schema_field(serializers.DictField(child=serializers.CharField()))
    def get_links(self, found: DatasetImport) -> dict[str, str]:
        """Return where to follow it; ``columns`` where its rows fit no format and a person has to map the columns."""
        links = {"self": f"/api/v1/datasets/imports/{found.pk}"}
        if found.waiting_upload_id:
            links["columns"] = f"/api/v1/datasets/uploads/{found.waiting_upload_id}/columns"
            links["page"] = f"/datasets/uploads/{found.waiting_upload_id}"
        return links


class ImportView(generics.GenericAPIView):
    """The door for data that lie elsewhere."""

    serializer_class = ImportSerializer

    @extend_schema(operation_id="datasets_import", request=ImportSerializer, responses={202: ImportStateSerializer})
    def post(self, request: Request) -> Response:
        """Have a worker bring data from the Hub or a bucket, as the first or next version of the dataset of that name.

        Only data files are read (Parquet, JSON, JSON Lines, CSV, TSV, text, Markdown, also compressed): never a loading script.
        A repository without any is taken from the Parquet that the Hub made of it. Follow the answer's link: ``status`` goes
        from pending to running to succeeded or failed. Every row is checked, as of an upload.
        """
        body = ImportSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        made = request_import(
            user=request.user,
            source=body.asked_source(),
            name=asked.get("name", ""),
            file_format=None if asked["format"] == "auto" else FileFormat(asked["format"]),
            columns=asked.get("columns"),
        )
        return Response(ImportStateSerializer(made).data, status=status.HTTP_202_ACCEPTED)


def _visible(request: Request) -> QuerySet[DatasetImport]:
    return DatasetImport.objects.visible_to(request.user).select_related("version")


@extend_schema_view(get=extend_schema(operation_id="datasets_imports_list"))
class ImportsView(generics.ListAPIView):
    """The user's imports, newest first."""

    serializer_class = ImportStateSerializer

    def get_queryset(self) -> QuerySet[DatasetImport]:
        """Return the user's own imports."""
        return _visible(self.request)


@extend_schema_view(
    get=extend_schema(operation_id="datasets_imports_get"), delete=extend_schema(operation_id="datasets_imports_delete")
)
class ImportStateView(generics.RetrieveDestroyAPIView):
    """One import. Deleting it stops it where it has not ended; a version that it made stays."""

    serializer_class = ImportStateSerializer
    lookup_field = "id"

    def get_queryset(self) -> QuerySet[DatasetImport]:
        """Return the user's own imports."""
        return _visible(self.request)
