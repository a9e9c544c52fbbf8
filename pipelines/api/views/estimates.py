"""What a run would need."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pipelines import estimates
from pipelines.api.serializers.estimates import EstimateSerializer
from pipelines.api.serializers.jobs import JobRequestSerializer
from pipelines.api.views.jobs import start_values


class JobEstimateView(APIView):
    """Before anything starts."""

    @extend_schema(operation_id="jobs_estimate", request=JobRequestSerializer, responses=EstimateSerializer)
    def post(self, request: Request) -> Response:
        """Say what this run would need if it started now: tokens, memory, time, disk and cost. Takes the body of POST /jobs.

        Nothing is stored and nothing starts. What nobody can know yet is null, and the node's notes say why.
        """
        body = JobRequestSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        values = start_values(request, body)
        for name in ("client_run_id", "name"):
            values.pop(name, None)
        return Response(EstimateSerializer(estimates.estimate_run(user=request.user, **values)).data)
