"""Fix a version of a dataset, and compare two."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from datasets_app.api.serializers import VersionQuerySerializer
from datasets_app.api.version_serializers import (
    ApplyFixesSerializer,
    DiffQuerySerializer,
    DiffSerializer,
    MadeVersionSerializer,
    ProposalsSerializer,
)
from datasets_app.api.views import find_version
from datasets_app.fixes import apply_fixes, propose_fixes
from datasets_app.models import DatasetVersion
from datasets_app.versions import diff_versions


class FixesView(APIView):
    """Fixes of what the report names."""

    @extend_schema(operation_id="datasets_fixes_list", parameters=[VersionQuerySerializer], responses=ProposalsSerializer)
    def get(self, request: Request, id: UUID) -> Response:
        """Return the fixes that the version's report suggests, with the rows that each would touch."""
        query = VersionQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        version = find_version(request, id, query.validated_data.get("version"))
        return Response(ProposalsSerializer({"version": version.number, "fixes": propose_fixes(version)}).data)

    @extend_schema(
        operation_id="datasets_fixes_apply",
        request=ApplyFixesSerializer,
        responses={201: MadeVersionSerializer, 200: MadeVersionSerializer},
    )
    def post(self, request: Request, id: UUID) -> Response:
        """Apply fixes as a new version; the version itself stays as it is.

        200 instead of 201: a version with that content exists already, and is the answer.
        """
        body = ApplyFixesSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        version = find_version(request, id, body.validated_data.get("version"))
        made = apply_fixes(version=version, codes=body.validated_data.get("codes"))
        answer = MadeVersionSerializer(made.version).data
        return Response(answer, status=status.HTTP_201_CREATED if made.created else status.HTTP_200_OK)


class DiffView(APIView):
    """Differences between two versions."""

    @extend_schema(operation_id="datasets_diff", parameters=[DiffQuerySerializer], responses=DiffSerializer)
    def get(self, request: Request, id: UUID) -> Response:
        """Compare two versions: columns, and rows added, removed and changed, with the first of each."""
        query = DiffQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        after = find_version(request, id, query.validated_data.get("to"))
        before = find_version(request, id, query.validated_data.get("from") or _earlier(after))
        found = diff_versions(before, after, samples=query.validated_data["samples"])
        answer = {
            "before": before.number, "after": after.number, "columns": found.columns, "formats": found.formats,
            "rows": found.rows,
        }  # fmt: skip
        return Response(DiffSerializer(answer).data)


def _earlier(version: DatasetVersion) -> int:
    """Return the number of the version that ``version`` was made from, or else of the one before.

    Raises: Http404: it is the first.
    """
    earlier = version.parent or version.dataset.versions.filter(number__lt=version.number).order_by("-number").first()
    if earlier is None:
        raise Http404
    return earlier.number
