"""Datasets and their versions, as the REST API shows them."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from celery_workers.data.formats import FileFormat
from celery_workers.data.spellings import PARTS
from datasets_app.models import Dataset, DatasetVersion, WaitingUpload

FILE_FORMATS = ["auto", *FileFormat]


class UploadSerializer(serializers.Serializer):
    """A multipart upload."""

    file = serializers.FileField(allow_empty_file=True, max_length=255)
    name = serializers.CharField(max_length=200, required=False, help_text="Name of the dataset; the file's, if left out.")
    format = serializers.ChoiceField(FILE_FORMATS, default="auto", help_text="Format of the file; auto goes by its content.")
    columns = serializers.JSONField(
        required=False,
        help_text='Column of the file for each part of a row, as JSON, where no row format fits the names: {"prompt": "frage", '
        '"completion": "antwort"}. Parts: ' + ", ".join(sorted(PARTS)) + ".",
    )

    keep = serializers.BooleanField(
        default=False,
        help_text="Keep the file where its rows fit no format, and answer 202 with where to map its columns.",
    )

    def validate_columns(self, columns: object) -> dict[str, str]:
        """Take names to names only."""
        if not isinstance(columns, dict) or len(columns) > len(PARTS):
            raise serializers.ValidationError(f"must be an object with at most {len(PARTS)} names of columns")
        if not all(isinstance(column, str) for column in columns.values()):
            raise serializers.ValidationError("must map each part of a row to the name of a column")
        return columns


class VersionSerializer(serializers.ModelSerializer):
    """One version. ``format`` is what its rows are, ``file_format`` what the file is.

    ``changes`` says what was done to the rows of ``parent``, ``origin`` where an import found them: repository, commit, split
    and files with their digests, or an address; ``statistics`` what the rows are like.
    """

    version = serializers.IntegerField(source="number")
    parent = serializers.IntegerField(
        source="parent.number", default=None, allow_null=True, help_text="Number of the version that fixes made this one from."
    )

    class Meta:
        model = DatasetVersion
        fields = [
            "version", "format", "format_reason", "file_name", "file_format", "rows", "columns", "size_bytes", "sha256",
            "created_at", "parent", "changes", "origin", "statistics",
        ]  # fmt: skip


class UploadedSerializer(serializers.ModelSerializer):
    """What became of an upload. ``id`` is the dataset's; a pipeline refers to it as ``reference``."""

    id = serializers.UUIDField(source="dataset_id")
    name = serializers.CharField(source="dataset.name")
    version = serializers.IntegerField(source="number")
    reference = serializers.SerializerMethodField()
    checks = serializers.SerializerMethodField()

    class Meta:
        model = DatasetVersion
        fields = [
            "id", "name", "version", "format", "format_reason", "file_format", "rows", "size_bytes", "sha256", "reference",
            "checks",
        ]  # fmt: skip

    def get_reference(self, version: DatasetVersion) -> str:
        """Return what a config's ``file_path`` takes."""
        return f"dataset:{version.dataset_id}@{version.number}"

    def get_checks(self, version: DatasetVersion) -> dict[str, int]:
        """Return how many rows are fit, left out and warned about; the report names them."""
        return dict(version.report["summary"])


class WaitingUploadSerializer(serializers.ModelSerializer):
    """A file that is no version yet: ``code`` and ``detail`` say why, and its columns can be mapped."""

    detail = serializers.CharField(source="reason")
    links = serializers.SerializerMethodField()

    class Meta:
        model = WaitingUpload
        fields = ["id", "name", "file_name", "file_format", "size_bytes", "sha256", "created_at", "code", "detail", "links"]

    @extend_schema_field(serializers.DictField(child=serializers.CharField()))
    def get_links(self, waiting: WaitingUpload) -> dict[str, str]:
        """Return where the columns can be mapped: by a script, and on a page."""
        return {"columns": f"/api/v1/datasets/uploads/{waiting.pk}/columns", "page": f"/datasets/uploads/{waiting.pk}"}


class DatasetSerializer(serializers.ModelSerializer):
    """A dataset with its newest version."""

    latest_version = VersionSerializer(allow_null=True)

    class Meta:
        model = Dataset
        fields = ["id", "name", "created_at", "latest_version"]


class DatasetDetailSerializer(DatasetSerializer):
    """A dataset with all its versions, newest first."""

    versions = VersionSerializer(many=True)

    class Meta(DatasetSerializer.Meta):
        fields = [*DatasetSerializer.Meta.fields, "versions"]


class VersionQuerySerializer(serializers.Serializer):
    """Which version."""

    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, required=False, help_text="The newest, if left out.")


class PreviewQuerySerializer(VersionQuerySerializer):
    """Which rows of which version."""

    offset = serializers.IntegerField(min_value=0, max_value=2**62, default=0, help_text="Rows to pass over.")
    limit = serializers.IntegerField(min_value=1, max_value=200, default=20, help_text="Rows to return.")


class PreviewSerializer(serializers.Serializer):
    """A page of rows as they stand in the file. A row that cannot be read has ``problem`` instead of values."""

    version = serializers.IntegerField()
    offset = serializers.IntegerField()
    total = serializers.IntegerField(help_text="Rows of the file.")
    next_offset = serializers.IntegerField(allow_null=True)
    columns = serializers.ListField(child=serializers.DictField())
    rows = serializers.ListField(child=serializers.DictField(), help_text="Each with row_number and its columns.")
