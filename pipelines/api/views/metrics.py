"""Curves of a run."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pipelines.api.serializers.events import CurvesQuerySerializer, CurvesSerializer
from pipelines.api.views.runs import RUN_PARAMETER, find_run
from pipelines.events.curves import curves


class JobMetricsView(APIView):
    """The metrics of one run."""

    @extend_schema(operation_id="jobs_metrics", parameters=[RUN_PARAMETER, CurvesQuerySerializer], responses=CurvesSerializer)
    def get(self, request: Request, id: str) -> Response:
        """Show curves in buckets that keep the smallest, largest and last value."""
        query = CurvesQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        return Response({"series": curves(find_run(request, id).id, **query.validated_data)})
