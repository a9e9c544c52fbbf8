"""Pipelines, their versions, artifacts, checkpoints and what an MLflow server knows: read only."""

from __future__ import annotations

from django.contrib import admin
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from pipelines.models import Artifact, Checkpoint, Pipeline, PipelineVersion, TrackedNode
from platform_site.common.admin import ReadOnlyAdmin, as_bytes, as_json, link_to


@admin.register(Pipeline)
class PipelineAdmin(ReadOnlyAdmin):
    """Editable heads. Their owners edit them: a change from here would be lost to the edit number of an open canvas."""

    list_display = ["name", "owner", "edit_number", "created_at", "updated_at"]
    list_filter = [("owner", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["owner"]
    search_fields = ["name", "owner__username"]
    fields = ["id", "name", "owner", "description", "edit_number", "created_at", "updated_at", "draft_json"]
    readonly_fields = ["draft_json"]

    @admin.display(description="draft")
    def draft_json(self, row: Pipeline) -> SafeString:
        return as_json(row.draft)


@admin.register(PipelineVersion)
class PipelineVersionAdmin(ReadOnlyAdmin):
    """Frozen graphs."""

    list_display = ["__str__", "owner", "sha256", "created_at"]
    list_filter = [("owner", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["owner", "pipeline"]
    search_fields = ["name", "sha256", "pipeline__name"]
    fields = ["id", "pipeline", "number", "name", "owner", "sha256", "created_at", "graph_json"]
    readonly_fields = ["graph_json"]

    @admin.display(description="graph")
    def graph_json(self, row: PipelineVersion) -> SafeString:
        return as_json(row.graph)


@admin.register(Artifact)
class ArtifactAdmin(ReadOnlyAdmin):
    """Files and folders in the store, with where they came from and what was made of them."""

    list_display = ["name", "kind", "size", "sha256", "owner", "made_by", "created_at"]
    list_filter = ["kind", ("owner", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["owner", "node_run"]
    search_fields = ["name", "sha256", "id"]
    ordering = ["-created_at"]
    fields = [
        "id", "kind", "name", "port", "owner", "made_by", "created_at", "size", "sha256", "uri", "is_folder", "made_from",
        "made_into", "metadata_json", "manifest_json",
    ]  # fmt: skip
    readonly_fields = ["size", "made_by", "made_from", "made_into", "metadata_json", "manifest_json"]

    @admin.display(description="size", ordering="size_bytes")
    def size(self, row: Artifact) -> str:
        return as_bytes(row.size_bytes)

    @admin.display(description="made by")
    def made_by(self, row: Artifact) -> SafeString | None:
        return link_to(row.node_run)

    @admin.display(description="made from")
    def made_from(self, row: Artifact) -> SafeString:
        return format_html_join(", ", "{}", ((link_to(parent),) for parent in row.parents.all()))

    @admin.display(description="made into")
    def made_into(self, row: Artifact) -> SafeString:
        return format_html_join(", ", "{}", ((link_to(child),) for child in row.children.all()))

    @admin.display(description="metadata")
    def metadata_json(self, row: Artifact) -> SafeString:
        return as_json(row.metadata)

    @admin.display(description="files")
    def manifest_json(self, row: Artifact) -> SafeString:
        return as_json(row.manifest)


@admin.register(Checkpoint)
class CheckpointAdmin(ReadOnlyAdmin):
    """Folders from which a later attempt can go on."""

    list_display = ["__str__", "run_link", "step", "size", "sha256", "created_at"]
    list_select_related = ["node_run__run"]
    search_fields = ["node_run__node", "node_run__run__id", "sha256"]
    ordering = ["-created_at"]
    fields = ["id", "node_run_link", "run_link", "step", "size", "sha256", "uri", "created_at"]
    readonly_fields = ["node_run_link", "run_link", "size"]

    @admin.display(description="attempt")
    def node_run_link(self, row: Checkpoint) -> SafeString | None:
        return link_to(row.node_run)

    @admin.display(description="run")
    def run_link(self, row: Checkpoint) -> SafeString | None:
        return link_to(row.node_run.run)

    @admin.display(description="size", ordering="size_bytes")
    def size(self, row: Checkpoint) -> str:
        return as_bytes(row.size_bytes)


@admin.register(TrackedNode)
class TrackedNodeAdmin(ReadOnlyAdmin):
    """Trainings as an MLflow server knows them, and what it refused."""

    list_display = ["__str__", "experiment_id", "tracking_run_id", "last_seq", "ended_attempt", "error", "updated_at"]
    list_filter = [("error", admin.EmptyFieldListFilter)]
    list_select_related = ["run"]
    search_fields = ["run__id", "node", "tracking_run_id"]
    fields = ["run", "node", "experiment_id", "tracking_run_id", "last_seq", "ended_attempt", "error", "updated_at"]
