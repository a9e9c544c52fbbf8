"""The registry in Django admin: history to look at."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from models_app.models import Evaluation, ModelVersion, RegisteredModel
from platform_site.common.admin import ReadOnlyAdmin, as_bytes, as_json, link_to


@admin.register(RegisteredModel)
class RegisteredModelAdmin(ReadOnlyAdmin):
    """Names, with the number of their versions."""

    list_display = ["name", "owner", "versions_count", "created_at"]
    list_filter = [("owner", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["owner"]
    search_fields = ["name", "owner__username"]
    date_hierarchy = "created_at"
    fields = ["id", "name", "owner", "versions_count", "created_at"]
    readonly_fields = ["versions_count"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[RegisteredModel]:
        """Count the versions in the same query."""
        return super().get_queryset(request).annotate(versions_number=Count("versions"))

    @admin.display(description="versions", ordering="versions_number")
    def versions_count(self, model: RegisteredModel) -> int:
        return model.versions_number


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnlyAdmin):
    """Versions, with what they were made from and by."""

    list_display = ["model", "number", "kind", "base_model", "size", "run_link", "created_at"]
    list_filter = ["kind", ("model__owner", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["model", "artifact", "run"]
    search_fields = ["id", "model__name", "base_model", "sha256"]
    date_hierarchy = "created_at"
    fields = [
        "id", "model", "number", "kind", "base_model", "sha256", "size", "parent_link", "artifact_link", "run_link", "node",
        "numbers", "created_at",
    ]  # fmt: skip
    readonly_fields = ["size", "parent_link", "artifact_link", "run_link", "numbers"]

    @admin.display(description="size", ordering="artifact__size_bytes")
    def size(self, version: ModelVersion) -> str | None:
        return as_bytes(version.artifact.size_bytes) if version.artifact else None

    @admin.display(description="parent")
    def parent_link(self, version: ModelVersion) -> SafeString | None:
        return link_to(version.parent)

    @admin.display(description="artifact")
    def artifact_link(self, version: ModelVersion) -> SafeString | None:
        return link_to(version.artifact)

    @admin.display(description="run")
    def run_link(self, version: ModelVersion) -> SafeString | None:
        return link_to(version.run)

    @admin.display(description="metrics")
    def numbers(self, version: ModelVersion) -> SafeString:
        return as_json(version.metrics)


@admin.register(Evaluation)
class EvaluationAdmin(ReadOnlyAdmin):
    """Scores, with the report that they come from."""

    list_display = ["model_version", "owner", "exact_match", "loss", "run_link", "created_at"]
    list_filter = ["model_version__kind", ("owner", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["model_version__model", "owner", "run"]
    search_fields = ["model_version__model__name", "examples_sha256"]
    date_hierarchy = "created_at"
    fields = ["id", "model_version_link", "owner", "report_link", "run_link", "examples_sha256", "numbers", "created_at"]
    readonly_fields = ["model_version_link", "report_link", "run_link", "numbers"]

    @admin.display(description="exact match")
    def exact_match(self, evaluation: Evaluation) -> float | None:
        return evaluation.scores.get("exact_match")

    @admin.display(description="loss")
    def loss(self, evaluation: Evaluation) -> float | None:
        return evaluation.scores.get("loss")

    @admin.display(description="model version")
    def model_version_link(self, evaluation: Evaluation) -> SafeString | None:
        return link_to(evaluation.model_version)

    @admin.display(description="report")
    def report_link(self, evaluation: Evaluation) -> SafeString | None:
        return link_to(evaluation.report)

    @admin.display(description="run")
    def run_link(self, evaluation: Evaluation) -> SafeString | None:
        return link_to(evaluation.run)

    @admin.display(description="scores")
    def numbers(self, evaluation: Evaluation) -> SafeString:
        return as_json(evaluation.scores)
