"""The shapes of events and curves."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from pipelines.events import LEVELS, MAX_PAGE_EVENTS
from pipelines.events.curves import MAX_POINTS
from pipelines.models import Event


@extend_schema_field(
    {"oneOf": [{"type": "number"}, {"type": "string", "enum": ["nan", "inf", "-inf"]}], "description": "Never silently cut."}
)
class NumberField(serializers.FloatField):
    """A number, or the text ``nan``, ``inf`` or ``-inf``, which JSON cannot write as a number."""


class EventSerializer(serializers.Serializer):
    """One line of a run's stream; ``step``, ``epoch`` and ``loss`` are there for metrics only."""

    seq = serializers.IntegerField(help_text="From 1, without gaps within the run.")
    type = serializers.ChoiceField(choices=Event.Type.choices)
    run_id = serializers.UUIDField()
    node = serializers.CharField(allow_null=True, help_text="Null for a line of the run itself.")
    attempt = serializers.IntegerField(allow_null=True)
    timestamp = serializers.DateTimeField()
    agent = serializers.CharField(allow_null=True)
    level = serializers.ChoiceField(choices=LEVELS)
    message = serializers.CharField()
    step = serializers.IntegerField(required=False, allow_null=True)
    epoch = serializers.FloatField(required=False, allow_null=True)
    loss = NumberField(required=False, allow_null=True)
    data = serializers.DictField()


class EventPageSerializer(serializers.Serializer):
    """Events in order; a link is null where nothing follows it now."""

    results = EventSerializer(many=True)
    next = serializers.URLField(allow_null=True, help_text="The events after these, when reading forward.")
    previous = serializers.URLField(allow_null=True, help_text="The events before these, when reading back by before.")


class LevelField(serializers.ChoiceField):
    """A level in any case."""

    def to_internal_value(self, data: object) -> str:
        """Read ``data`` in capitals."""
        return super().to_internal_value(str(data).upper())


class HistoryQuerySerializer(serializers.Serializer):
    """Which events to show."""

    after = serializers.IntegerField(min_value=0, default=0, help_text="Only events with a higher number.")
    before = serializers.IntegerField(
        min_value=1, allow_null=True, default=None, help_text="Only events with a lower number: the last of them, in order."
    )
    limit = serializers.IntegerField(min_value=1, max_value=MAX_PAGE_EVENTS, default=500)
    level = LevelField(choices=LEVELS, default="", help_text="The least severe level to show.")
    node = serializers.CharField(default="", help_text="Name of a node.")
    search = serializers.CharField(default="", help_text="A part of the message, in any case.")


class StreamQuerySerializer(serializers.Serializer):
    """Where to begin."""

    after = serializers.IntegerField(min_value=0, default=0, help_text="Only events with a higher number.")


class CurvesQuerySerializer(serializers.Serializer):
    """Which curves, and how fine."""

    names = serializers.CharField(default="", help_text="Names of metrics, by comma; all if empty.")
    points = serializers.IntegerField(min_value=1, max_value=MAX_POINTS, default=500, help_text="Most buckets a curve.")
    node = serializers.CharField(default="", help_text="Name of a node; all if empty.")

    def validate_names(self, value: str) -> list[str]:
        """Cut the text into names."""
        return [name.strip() for name in value.split(",") if name.strip()]


class PointSerializer(serializers.Serializer):
    """One bucket of steps: its last step, and the smallest, largest and last value in it."""

    step = serializers.IntegerField()
    min = NumberField()
    max = NumberField()
    last = NumberField()


class SeriesSerializer(serializers.Serializer):
    """One metric of one node."""

    node = serializers.CharField()
    name = serializers.CharField()
    points = PointSerializer(many=True)


class CurvesSerializer(serializers.Serializer):
    """A run's curves."""

    series = SeriesSerializer(many=True)
