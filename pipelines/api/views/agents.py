"""The catalogue of agents."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pipelines import catalog
from pipelines.api.serializers.agents import AgentPageSerializer


class AgentsView(APIView):
    """Every agent that this platform knows."""

    @extend_schema(operation_id="agents_list", responses=AgentPageSerializer)
    def get(self, request: Request) -> Response:  # noqa: ARG002 (the framework's signature)
        """List the agents with their ports, the JSON Schema of their config, and its defaults."""
        return Response({"results": catalog.catalogue(), "next": None, "previous": None})
