"""The shape of an artifact with its lineage."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.reverse import reverse

from pipelines.models import Artifact


class RelatedArtifactSerializer(serializers.ModelSerializer):
    """An artifact in another's lineage."""

    class Meta:
        model = Artifact
        fields = ["id", "kind", "name", "sha256", "size_bytes"]


class MakerSerializer(serializers.Serializer):
    """The attempt that made an artifact."""

    run_id = serializers.UUIDField()
    node = serializers.CharField()
    agent = serializers.CharField()
    attempt = serializers.IntegerField()


class ManifestEntrySerializer(serializers.Serializer):
    """One file of a folder."""

    path = serializers.CharField()
    sha256 = serializers.CharField()
    size_bytes = serializers.IntegerField()


class ArtifactSerializer(serializers.ModelSerializer):
    """An artifact; ``parents`` are what it was made from, ``children`` what was made from it."""

    made_by = MakerSerializer(source="node_run", allow_null=True)
    manifest = ManifestEntrySerializer(many=True)
    metadata = serializers.DictField()
    parents = RelatedArtifactSerializer(many=True)
    children = RelatedArtifactSerializer(many=True)
    download = serializers.SerializerMethodField()

    class Meta:
        model = Artifact
        fields = [
            "id", "kind", "name", "port", "sha256", "size_bytes", "is_folder", "manifest", "metadata", "created_at", "made_by",
            "parents", "children", "download",
        ]  # fmt: skip

    @extend_schema_field({"type": "string", "format": "uri"})
    def get_download(self, artifact: Artifact) -> str:
        """Return the address of its bytes."""
        return reverse("artifact-download", args=[artifact.id], request=self.context["request"])
