"""The shapes of requests and answers about pipelines, their drafts and versions."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from pipelines.api.serializers.jobs import (
    EdgesField,
    GraphEdgeSerializer,
    GraphNodeSerializer,
    NodesField,
    StorableJSONField,
    StrictSerializer,
)
from pipelines.models import Pipeline, PipelineVersion


class GraphSerializer(serializers.Serializer):
    """A pipeline in JSON."""

    nodes = GraphNodeSerializer(many=True)
    edges = GraphEdgeSerializer(many=True)
    ui = serializers.DictField(required=False, help_text="Kept as it is: notes, groups and the like.")


@extend_schema_field(GraphSerializer)
class DraftField(StorableJSONField):
    """A draft as posted: the graph's own checks name what is wrong."""


class PipelineSerializer(serializers.ModelSerializer):
    """A pipeline in a list."""

    nodes = serializers.SerializerMethodField(help_text="How many the draft has.")
    versions = serializers.IntegerField(source="version_count", help_text="How many there are.")

    class Meta:
        model = Pipeline
        fields = ["id", "name", "description", "edit_number", "nodes", "versions", "created_at", "updated_at"]

    def get_nodes(self, pipeline: Pipeline) -> int:
        """Return the number of nodes."""
        return len(pipeline.draft.get("nodes", []))


class PipelineDetailSerializer(PipelineSerializer):
    """A pipeline with its draft."""

    draft = DraftField()

    class Meta(PipelineSerializer.Meta):
        fields = [*PipelineSerializer.Meta.fields, "draft"]


class PipelineCreateSerializer(StrictSerializer):
    """A new pipeline."""

    name = serializers.CharField(max_length=200)
    description = serializers.CharField(required=False, allow_blank=True, max_length=5_000)
    draft = DraftField(required=False, help_text="Empty if left out.")


class PipelineSaveSerializer(StrictSerializer):
    """An edit, and the edit that it was made on top of. What is left out stays."""

    edit_number = serializers.IntegerField(min_value=1, help_text="That of the draft you changed.")
    name = serializers.CharField(required=False, max_length=200)
    description = serializers.CharField(required=False, allow_blank=True, max_length=5_000)
    draft = DraftField(required=False)


class StaleEditSerializer(serializers.Serializer):
    """Somebody saved in between: nothing was changed, and this is what is there now."""

    code = serializers.CharField()
    detail = serializers.CharField()
    errors = serializers.ListField(child=serializers.DictField())
    current = PipelineDetailSerializer()


class PipelineVersionSerializer(serializers.ModelSerializer):
    """An immutable version in a list."""

    nodes = serializers.SerializerMethodField(help_text="How many it has.")

    class Meta:
        model = PipelineVersion
        fields = ["id", "number", "name", "sha256", "nodes", "created_at"]

    def get_nodes(self, version: PipelineVersion) -> int:
        """Return the number of nodes."""
        return len(version.graph.get("nodes", []))


class PipelineVersionDetailSerializer(PipelineVersionSerializer):
    """An immutable version with its graph: complete configs, every port named."""

    graph = DraftField()

    class Meta(PipelineVersionSerializer.Meta):
        fields = [*PipelineVersionSerializer.Meta.fields, "graph"]


class FreezeSerializer(StrictSerializer):
    """Which draft becomes a version, and what it is called."""

    edit_number = serializers.IntegerField(min_value=1, help_text="That of the draft you mean.")
    name = serializers.CharField(required=False, allow_blank=True, max_length=200)


class ValidateSerializer(StrictSerializer):
    """A graph to check."""

    nodes = NodesField()
    edges = EdgesField(required=False)
    ui = StorableJSONField(required=False)


class ProblemSerializer(serializers.Serializer):
    """One thing wrong: where, a stable code, and what to do."""

    message = serializers.CharField()
    code = serializers.CharField()
    node = serializers.CharField(allow_null=True)
    field = serializers.CharField(allow_null=True)


class ProblemsSerializer(serializers.Serializer):
    """Everything that starting this graph would meet; empty if it can run."""

    problems = ProblemSerializer(many=True)


class TemplateSerializer(serializers.Serializer):
    """A pipeline to begin with; each runs as it is on the bundled example."""

    name = serializers.CharField(help_text="For addresses.")
    title = serializers.CharField()
    summary = serializers.CharField()
    graph = GraphSerializer()
