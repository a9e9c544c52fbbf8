"""The shapes of the registry in the REST API."""

from __future__ import annotations

from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.reverse import reverse

from models_app.comparing import ScoreRow
from models_app.models import Evaluation, ModelVersion, RegisteredModel
from models_app.services import available_formats, comparisons_of, evaluations_of

MOST_COMPARED = 8


class NumberField(serializers.FloatField):
    """A number as it is stored: a count stays a whole number."""

    def to_representation(self, value: float) -> float:
        """Return the number unchanged."""
        return value


class ModelFilterSerializer(serializers.Serializer):
    """Query of the list."""

    kind = serializers.ChoiceField(
        ModelVersion.Kind.choices, required=False, help_text="Only versions of this kind, and the models that have one."
    )
    search = serializers.CharField(required=False, help_text="Part of the name.")


class DownloadQuerySerializer(serializers.Serializer):
    """Query of a download."""

    format = serializers.ChoiceField(
        [ModelVersion.Kind.ADAPTER.value, ModelVersion.Kind.MERGED.value],
        required=False,
        help_text="Form of the weights; by default that of the version itself.",
    )
    file = serializers.CharField(
        required=False, help_text="One file of the folder, with range support, instead of a zip of all of it."
    )


class VersionSummarySerializer(serializers.ModelSerializer):
    """One version in a list."""

    size_bytes = serializers.IntegerField(source="artifact.size_bytes", default=None, allow_null=True)
    run = serializers.UUIDField(source="run_id", allow_null=True)
    parent = serializers.UUIDField(source="parent_id", allow_null=True)
    metrics = serializers.DictField(child=NumberField())

    class Meta:
        model = ModelVersion
        fields = [
            "id", "number", "kind", "base_model", "sha256", "size_bytes", "parent", "run", "node", "metrics", "created_at",
        ]  # fmt: skip


class RegisteredModelSerializer(serializers.ModelSerializer):
    """A name with its versions, newest first. The ids of the versions are those of ``/models/{id}``."""

    versions = VersionSummarySerializer(many=True)

    class Meta:
        model = RegisteredModel
        fields = ["id", "name", "created_at", "versions"]


class ModelNameSerializer(serializers.ModelSerializer):
    """The name that a version belongs to."""

    class Meta:
        model = RegisteredModel
        fields = ["id", "name"]


class RelatedVersionSerializer(serializers.ModelSerializer):
    """A version in another's lineage."""

    name = serializers.CharField(source="model.name")

    class Meta:
        model = ModelVersion
        fields = ["id", "name", "number", "kind"]


class EvaluationSerializer(serializers.ModelSerializer):
    """Scores on one set of examples. ``model_version`` differs from the version where a merged model shows its adapter's."""

    model_version = serializers.UUIDField(source="model_version_id")
    report = serializers.UUIDField(source="report_id", help_text="Artifact of the report.")
    run = serializers.UUIDField(source="run_id", allow_null=True)
    scores = serializers.DictField(child=NumberField(allow_null=True))

    class Meta:
        model = Evaluation
        fields = ["id", "model_version", "report", "run", "examples_sha256", "scores", "created_at"]


class MetricDifferenceSerializer(serializers.Serializer):
    """One metric of two models with the interval of its difference."""

    metric = serializers.CharField()
    rows = serializers.IntegerField()
    before = serializers.FloatField()
    after = serializers.FloatField()
    difference = serializers.FloatField()
    low = serializers.FloatField()
    high = serializers.FloatField()
    wins = serializers.IntegerField()
    ties = serializers.IntegerField()
    losses = serializers.IntegerField()
    improvement = serializers.IntegerField(help_text="1 shown to be better, -1 shown to be worse, 0 neither.")


class ComparisonSerializer(serializers.Serializer):
    """What a comparison report says of the version."""

    report = serializers.UUIDField(help_text="Artifact of the report.")
    baseline = serializers.CharField()
    subject = serializers.CharField()
    baseline_sha256 = serializers.CharField()
    subject_sha256 = serializers.CharField()
    verdict = serializers.CharField()
    metrics = MetricDifferenceSerializer(many=True)
    created_at = serializers.DateTimeField()


class CompareQuerySerializer(serializers.Serializer):
    """Query of a comparison."""

    ids = serializers.CharField(help_text="Ids of 2 to 8 versions, by comma.")

    def validate_ids(self, value: str) -> list[UUID]:
        """Return the ids, each once, in order."""
        try:
            ids = list(dict.fromkeys(UUID(part.strip()) for part in value.split(",") if part.strip()))
        except ValueError as error:
            raise serializers.ValidationError("Must be ids by comma.") from error
        if not 2 <= len(ids) <= MOST_COMPARED:
            raise serializers.ValidationError(f"Must be 2 to {MOST_COMPARED} different ids, got {len(ids)}.")
        return ids


class SettingRowSerializer(serializers.Serializer):
    """One setting, a value for each version."""

    name = serializers.CharField()
    values = serializers.ListField(child=serializers.JSONField(allow_null=True))


class ScoreRowSerializer(serializers.Serializer):
    """Scores on one set of examples, an entry for each version; null where it was not measured on them."""

    examples_sha256 = serializers.CharField()
    evaluations = serializers.ListField(child=EvaluationSerializer(allow_null=True))

    def to_representation(self, instance: ScoreRow) -> dict[str, object]:
        """Return the row with its gaps."""
        shown = [None if one is None else EvaluationSerializer(one).data for one in instance.evaluations]
        return {"examples_sha256": instance.examples_sha256, "evaluations": shown}


class SideBySideSerializer(serializers.Serializer):
    """Versions side by side; every list of values is in the order of ``versions``."""

    versions = RelatedVersionSerializer(many=True)
    differing = SettingRowSerializer(many=True, help_text="Settings of the nodes that made them, where these differ.")
    equal = serializers.IntegerField(help_text="How many settings are the same.")
    scores = ScoreRowSerializer(many=True)
    comparisons = ComparisonSerializer(many=True, help_text="Of reports that compare two of them, with intervals.")


class FileSerializer(serializers.Serializer):
    """One file of a version's folder."""

    path = serializers.CharField()
    sha256 = serializers.CharField()
    size_bytes = serializers.IntegerField()


class DownloadSerializer(serializers.Serializer):
    """A form in which the version can be downloaded."""

    format = serializers.CharField()
    url = serializers.URLField()


class ModelVersionSerializer(VersionSummarySerializer):
    """One version with its lineage, scores, comparisons and files."""

    model = ModelNameSerializer()
    parent = RelatedVersionSerializer(allow_null=True)
    derived = serializers.SerializerMethodField()
    artifact = serializers.UUIDField(source="artifact_id", allow_null=True)
    metadata = serializers.DictField(source="artifact.metadata", default=dict)
    files = FileSerializer(source="artifact.manifest", many=True, default=list)
    evaluations = serializers.SerializerMethodField()
    comparisons = serializers.SerializerMethodField()
    downloads = serializers.SerializerMethodField()
    card = serializers.SerializerMethodField()

    class Meta:
        model = ModelVersion
        fields = [
            "id", "model", "number", "kind", "base_model", "sha256", "size_bytes", "artifact", "parent", "derived", "run",
            "node", "metrics", "metadata", "files", "evaluations", "comparisons", "downloads", "card", "created_at",
        ]  # fmt: skip

    @extend_schema_field(RelatedVersionSerializer(many=True))
    def get_derived(self, version: ModelVersion) -> list[dict[str, object]]:
        """Return the versions made from this one."""
        derived: QuerySet[ModelVersion] = version.derived.select_related("model").newest_first()
        return RelatedVersionSerializer(derived.visible_to(self.context["request"].user), many=True).data

    @extend_schema_field(EvaluationSerializer(many=True))
    def get_evaluations(self, version: ModelVersion) -> list[dict[str, object]]:
        """Return its scores, newest first."""
        return EvaluationSerializer(evaluations_of(version, self.context["request"].user), many=True).data

    @extend_schema_field(ComparisonSerializer(many=True))
    def get_comparisons(self, version: ModelVersion) -> list[dict[str, object]]:
        """Return what comparisons say of it, newest first."""
        return ComparisonSerializer(comparisons_of(version, self.context["request"].user), many=True).data

    @extend_schema_field(DownloadSerializer(many=True))
    def get_downloads(self, version: ModelVersion) -> list[dict[str, str]]:
        """Return where it can be downloaded, by format."""
        url = reverse("model-download", args=[version.pk], request=self.context["request"])
        return [{"format": name, "url": f"{url}?format={name}"} for name in available_formats(version)]

    @extend_schema_field({"type": "string", "format": "uri"})
    def get_card(self, version: ModelVersion) -> str:
        """Return the address of its card."""
        return reverse("model-card", args=[version.pk], request=self.context["request"])
