"""The shape of an estimate."""

from __future__ import annotations

from django.conf import settings
from rest_framework import serializers

from pipelines.estimates import RunEstimate


class NodeEstimateSerializer(serializers.Serializer):
    """What one node would need; null where nobody can know it yet."""

    node = serializers.CharField()
    is_done = serializers.BooleanField(help_text="Its result is in the cache.")
    tokens = serializers.IntegerField(allow_null=True, help_text="Tokens that pass through the model.")
    steps = serializers.IntegerField(allow_null=True)
    memory_bytes = serializers.IntegerField(allow_null=True, help_text="Most at once, on the device of its queue.")
    fits = serializers.BooleanField(allow_null=True, help_text="Whether that is less than the device has.")
    seconds = serializers.FloatField(allow_null=True)
    disk_bytes = serializers.IntegerField(allow_null=True, help_text="Outputs and newest checkpoints.")
    cost = serializers.FloatField(allow_null=True)
    notes = serializers.ListField(child=serializers.CharField(), help_text="What was guessed, or is not known yet.")


class MachineSerializer(serializers.Serializer):
    """What the estimate took a queue's machine to be."""

    device = serializers.CharField()
    memory_bytes = serializers.IntegerField()
    flops = serializers.DictField(child=serializers.FloatField(), help_text="Operations a second, by number type.")
    threads = serializers.IntegerField()


class EstimateSerializer(serializers.Serializer):
    """What a run would need, in all and by node. Nodes count one after the other; those that share nothing may overlap."""

    seconds = serializers.FloatField(allow_null=True)
    cost = serializers.FloatField(allow_null=True)
    currency = serializers.CharField()
    nodes = NodeEstimateSerializer(many=True)
    machines = serializers.DictField(child=MachineSerializer(), help_text="By queue; without flops where not measured yet.")

    def to_representation(self, instance: RunEstimate) -> dict[str, object]:
        """Return the estimate with the cost of each node beside it."""
        nodes = []
        for node, cost in zip(instance.nodes, instance.costs, strict=True):
            limit = instance.machines[queue].memory_bytes if (queue := instance.queues[node.node]) in instance.machines else 0
            fits = None if not limit or node.memory_bytes is None else node.memory_bytes <= limit
            nodes.append({**node.model_dump(), "fits": fits, "cost": cost})
        return {
            "seconds": instance.seconds,
            "cost": instance.cost,
            "currency": settings.ENV.price_currency,
            "nodes": nodes,
            "machines": {queue: machine.model_dump() for queue, machine in instance.machines.items()},
        }
