"""The shapes of requests and answers about runs."""

from __future__ import annotations

import json
import re

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.reverse import reverse

from pipelines.api.nodes import newest_attempts
from pipelines.models import NodeRun, NodeRunOutput, Run, Status
from pipelines.models.run import CLIENT_RUN_ID

_LINKS = {
    "self": "job",
    "progress": "job-progress",
    "metrics": "job-metrics",
    "stream": "log-stream",
    "history": "log-history",
}


class StrictSerializer(serializers.Serializer):
    """A request body that may hold no key it does not name."""

    def to_internal_value(self, data: object) -> dict[str, object]:
        """Refuse unknown keys, then read the known ones."""
        if isinstance(data, dict) and (unknown := sorted(set(data) - set(self.fields))):
            raise serializers.ValidationError({name: ["There is no such field."] for name in unknown})
        return super().to_internal_value(data)


class GraphNodeSerializer(serializers.Serializer):
    """One node of a pipeline in JSON."""

    agent_name = serializers.CharField(help_text="The node's name, unique in the graph.")
    agent_class = serializers.CharField(help_text="Class of its agent, as GET /agents lists it.")
    config = serializers.DictField(required=False, help_text="Settings; what is left out has the agent's default.")
    ui = serializers.DictField(required=False, help_text="Kept as it is: places on the canvas and the like.")


class GraphEdgeSerializer(serializers.Serializer):
    """One edge; ports may be left out where only one pair fits."""

    from_agent = serializers.CharField()
    to_agent = serializers.CharField()
    from_port = serializers.CharField(required=False)
    to_port = serializers.CharField(required=False)


_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # as JSON writes it; an even number of backslashes before it is text


class StorableJSONField(serializers.JSONField):
    """JSON that PostgreSQL gives back as it was: no NUL, no half of a surrogate pair, nothing nested without end."""

    default_error_messages = {"not_storable": "Must be JSON of whole Unicode characters without NUL and finite numbers."}

    def to_internal_value(self, data: object) -> object:
        """Refuse what cannot be stored."""
        try:
            text = json.dumps(data, ensure_ascii=False, allow_nan=False)
            text.encode()
        except (ValueError, RecursionError):
            self.fail("not_storable")
        if _NUL.search(text):
            self.fail("not_storable")
        return data


@extend_schema_field(GraphNodeSerializer(many=True))
class NodesField(StorableJSONField):
    """Nodes as posted: the graph's own checks name what is wrong by node and field."""


@extend_schema_field(GraphEdgeSerializer(many=True))
class EdgesField(StorableJSONField):
    """Edges as posted."""


@extend_schema_field({"type": "object", "additionalProperties": {}})
class ParametersField(StorableJSONField):
    """Values laid over the configs, by ``node.field``."""

    default_error_messages = {"not_an_object": "Must be an object of values by node.field."}

    def to_internal_value(self, data: object) -> object:
        """Take an object only."""
        if not isinstance(data, dict):
            self.fail("not_an_object")
        return super().to_internal_value(data)


class JobRequestSerializer(StrictSerializer):
    """What to run: a graph (``nodes``, ``edges``), or a stored ``pipeline`` in one of its versions."""

    nodes = NodesField(required=False)
    edges = EdgesField(required=False)
    pipeline = serializers.UUIDField(required=False)
    version = serializers.IntegerField(required=False, min_value=1, help_text="The newest one if left out.")
    parameters = ParametersField(required=False, help_text="Values laid over the configs, by node.field.")
    run_id = serializers.CharField(
        required=False, allow_null=True, validators=[CLIENT_RUN_ID], help_text="Your own name for the run; every path takes it."
    )
    name = serializers.CharField(required=False, allow_blank=True, max_length=200)
    ignore_cache = serializers.BooleanField(required=False, help_text="Run every node, also those whose result is known.")

    def validate(self, attrs: dict[str, object]) -> dict[str, object]:
        """Take either a graph or a pipeline."""
        if ("nodes" in attrs) == ("pipeline" in attrs):
            raise serializers.ValidationError("Give either nodes and edges, or a pipeline.")
        misplaced = {"nodes": {"version"}, "pipeline": {"edges"}}["nodes" if "nodes" in attrs else "pipeline"]
        if wrong := sorted(misplaced & set(attrs)):
            raise serializers.ValidationError({name: ["This belongs to the other form of the request."] for name in wrong})
        return attrs


class LinksSerializer(serializers.Serializer):
    """Addresses of everything about a run."""

    self = serializers.URLField()
    progress = serializers.URLField()
    metrics = serializers.URLField()
    stream = serializers.URLField()
    history = serializers.URLField()


class JobCreatedSerializer(serializers.Serializer):
    """A run that was accepted, canceled or retried."""

    id = serializers.UUIDField()
    run_id = serializers.SerializerMethodField(help_text="Your own name for the run where you gave one, else its id.")
    status = serializers.ChoiceField(choices=Status.choices)
    links = serializers.SerializerMethodField()

    def get_run_id(self, run: Run) -> str:
        """Return what the client calls the run."""
        return run.client_run_id or str(run.id)

    @extend_schema_field(LinksSerializer)
    def get_links(self, run: Run) -> dict[str, str]:
        """Return the run's addresses."""
        request = self.context["request"]
        return {key: reverse(name, args=[str(run.id)], request=request) for key, name in _LINKS.items()}


class RunErrorSerializer(serializers.Serializer):
    """Why a run failed."""

    kind = serializers.CharField(source="error_kind")
    code = serializers.CharField(source="error_code")
    message = serializers.CharField(source="error_message")
    node = serializers.CharField(source="error_node")


class NodeErrorSerializer(serializers.Serializer):
    """Why an attempt of a node failed."""

    kind = serializers.CharField(source="error_kind")
    code = serializers.CharField(source="error_code")
    message = serializers.CharField(source="error_message")
    field = serializers.CharField(source="error_field")
    evidence = serializers.DictField(source="error_evidence")


class OutputSerializer(serializers.ModelSerializer):
    """An artifact on a node's output port."""

    kind = serializers.CharField(source="artifact.kind")
    id = serializers.UUIDField(source="artifact.id")
    sha256 = serializers.CharField(source="artifact.sha256")
    size_bytes = serializers.IntegerField(source="artifact.size_bytes")

    class Meta:
        model = NodeRunOutput
        fields = ["port", "kind", "id", "sha256", "size_bytes"]


class JobNodeSerializer(serializers.ModelSerializer):
    """The newest attempt of a node."""

    name = serializers.CharField(source="node")
    error = serializers.SerializerMethodField()
    outputs = OutputSerializer(many=True)

    class Meta:
        model = NodeRun
        fields = [
            "name", "agent", "status", "attempt", "cached", "cache_note", "error", "started_at", "finished_at", "outputs",
        ]  # fmt: skip

    @extend_schema_field(NodeErrorSerializer(allow_null=True))
    def get_error(self, node_run: NodeRun) -> dict[str, object] | None:
        """Return the error, or None."""
        return NodeErrorSerializer(node_run).data if node_run.error_kind else None


class JobSerializer(serializers.ModelSerializer):
    """A run with its nodes."""

    run_id = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    nodes = serializers.SerializerMethodField()

    class Meta:
        model = Run
        fields = ["id", "run_id", "name", "status", "error", "created_at", "started_at", "finished_at", "nodes"]

    def get_run_id(self, run: Run) -> str:
        """Return what the client calls the run."""
        return run.client_run_id or str(run.id)

    @extend_schema_field(RunErrorSerializer(allow_null=True))
    def get_error(self, run: Run) -> dict[str, object] | None:
        """Return the error, or None."""
        return RunErrorSerializer(run).data if run.error_kind else None

    @extend_schema_field(JobNodeSerializer(many=True))
    def get_nodes(self, run: Run) -> list[dict[str, object]]:
        """Return the newest attempt of each node."""
        return JobNodeSerializer(newest_attempts(run), many=True).data


class JobFilterSerializer(serializers.Serializer):
    """Which runs a list shows."""

    status = serializers.MultipleChoiceField(choices=Status.choices, required=False, help_text="May be repeated.")
    search = serializers.CharField(required=False, help_text="A part of the name or of your run_id, in any case.")


class NodeProgressSerializer(serializers.Serializer):
    """How far one node is; ``fraction`` runs from 0 to 1."""

    name = serializers.CharField()
    status = serializers.ChoiceField(choices=Status.choices)
    fraction = serializers.FloatField()
    step = serializers.IntegerField(allow_null=True)
    total_steps = serializers.IntegerField(allow_null=True)
    metrics = serializers.DictField(help_text="Latest value of each metric.")


class ProgressSerializer(serializers.Serializer):
    """How far a run is."""

    status = serializers.ChoiceField(choices=Status.choices)
    fraction = serializers.FloatField()
    eta_seconds = serializers.FloatField(allow_null=True, help_text="Of the nodes that run now; null where no rate is known.")
    nodes = NodeProgressSerializer(many=True)
