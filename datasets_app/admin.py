"""Datasets and their versions, to look at: versions are history."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from datasets_app.models import Dataset, DatasetImport, DatasetVersion, Measurement, PairDecision, WaitingUpload
from platform_site.common.admin import ReadOnlyAdmin, as_bytes, as_json, link_to


@admin.register(Dataset)
class DatasetAdmin(ReadOnlyAdmin):
    """Names and how many versions stand below them."""

    list_display = ("name", "owner", "version_count", "created_at")
    search_fields = ("name", "owner__username", "id")
    list_select_related = ("owner",)
    ordering = ("-created_at",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Dataset]:
        return super().get_queryset(request).annotate(versions_total=Count("versions"))

    @admin.display(description="versions", ordering="versions_total")
    def version_count(self, dataset: Dataset) -> int:
        return dataset.versions_total


@admin.register(DatasetVersion)
class DatasetVersionAdmin(ReadOnlyAdmin):
    """Uploaded files and what was found in them."""

    list_display = ("__str__", "owner", "format", "file_format", "rows", "size", "created_at")
    list_filter = ("format", "file_format")
    search_fields = ("dataset__name", "file_name", "sha256", "dataset__owner__username")
    list_select_related = ("dataset__owner",)
    ordering = ("-created_at",)
    fields = (
        "dataset_link", "number", "owner", "file_name", "file_format", "format", "format_reason", "rows", "size", "sha256",
        "uri", "columns_shown", "report_shown", "parent_link", "changes_shown", "origin_shown", "statistics_shown",
        "created_at",
    )  # fmt: skip

    @admin.display(description="dataset")
    def dataset_link(self, version: DatasetVersion) -> SafeString | None:
        return link_to(version.dataset)

    @admin.display(description="owner")
    def owner(self, version: DatasetVersion) -> str:
        return version.dataset.owner.get_username()

    @admin.display(description="size", ordering="size_bytes")
    def size(self, version: DatasetVersion) -> str:
        return as_bytes(version.size_bytes)

    @admin.display(description="origin")
    def origin_shown(self, version: DatasetVersion) -> SafeString:
        return as_json(version.origin)

    @admin.display(description="columns")
    def columns_shown(self, version: DatasetVersion) -> SafeString:
        return as_json(version.columns)

    @admin.display(description="made from")
    def parent_link(self, version: DatasetVersion) -> SafeString | None:
        return link_to(version.parent)

    @admin.display(description="changes")
    def changes_shown(self, version: DatasetVersion) -> SafeString:
        return as_json(version.changes)

    @admin.display(description="statistics")
    def statistics_shown(self, version: DatasetVersion) -> SafeString:
        return as_json(version.statistics)

    @admin.display(description="report")
    def report_shown(self, version: DatasetVersion) -> SafeString:
        return as_json({key: version.report.get(key) for key in ("verdict", "summary", "tables")})


@admin.register(WaitingUpload)
class WaitingUploadAdmin(ReadOnlyAdmin):
    """Uploaded files that wait for a mapping."""

    list_display = ("file_name", "owner", "name", "code", "size", "created_at")
    list_filter = ("code", "file_format")
    search_fields = ("name", "file_name", "sha256", "owner__username")
    list_select_related = ("owner",)
    ordering = ("-created_at",)

    @admin.display(description="size", ordering="size_bytes")
    def size(self, waiting: WaitingUpload) -> str:
        return as_bytes(waiting.size_bytes)


@admin.register(Measurement)
class MeasurementAdmin(ReadOnlyAdmin):
    """What was counted of versions on demand."""

    list_display = ("version", "kind", "subject", "created_at")
    list_filter = ("kind",)
    search_fields = ("version__dataset__name", "subject")
    list_select_related = ("version__dataset",)
    ordering = ("-created_at",)


@admin.register(PairDecision)
class PairDecisionAdmin(ReadOnlyAdmin):
    """What was decided about near duplicates."""

    list_display = ("version", "first", "second", "decision", "created_at")
    list_filter = ("decision",)
    search_fields = ("version__dataset__name",)
    list_select_related = ("version__dataset",)
    ordering = ("-created_at",)


@admin.register(DatasetImport)
class DatasetImportAdmin(ReadOnlyAdmin):
    """Imports from the Hub and from buckets, and what became of them."""

    list_display = ("__str__", "owner", "status", "attempt", "done_bytes", "total_bytes", "code", "created_at")
    list_filter = ("status", "code")
    search_fields = ("name", "owner__username", "id")
    list_select_related = ("owner",)
    ordering = ("-created_at",)
