"""The shape of the catalogue of agents."""

from __future__ import annotations

from rest_framework import serializers


class PortSerializer(serializers.Serializer):
    """One typed socket."""

    name = serializers.CharField()
    kind = serializers.CharField()
    required = serializers.BooleanField()  # type: ignore[assignment]
    many = serializers.BooleanField(help_text="Whether it takes several edges.")


class PortsSerializer(serializers.Serializer):
    """An agent's sockets."""

    inputs = PortSerializer(many=True)
    outputs = PortSerializer(many=True)


class AgentSerializer(serializers.Serializer):
    """One kind of step, as ``pipelines.catalog`` describes it."""

    name = serializers.CharField()
    title = serializers.CharField()
    summary = serializers.CharField()
    category = serializers.CharField()
    queue = serializers.CharField()
    version = serializers.IntegerField()
    ports = PortsSerializer()
    config_schema = serializers.DictField(help_text="JSON Schema of its config.")
    defaults = serializers.DictField(help_text="What a config has where nothing is set.")

    def get_fields(self) -> dict[str, serializers.Field]:
        """Add the field whose name is a word of Python."""
        fields = super().get_fields()
        return {"name": fields.pop("name"), "class": serializers.CharField(help_text="Its agent_class in a graph.")} | fields


class AgentPageSerializer(serializers.Serializer):
    """The whole catalogue, as one page."""

    results = AgentSerializer(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
