"""Lists in pages whose cursors stay true while rows are added."""

from __future__ import annotations

from collections.abc import Sequence

from rest_framework.pagination import CursorPagination
from rest_framework.response import Response


class NewestFirstPagination(CursorPagination):
    """Newest rows first: ``{"results", "next", "previous"}``, 50 a page unless ``limit`` says otherwise."""

    ordering = ("-created_at", "-id")
    page_size = 50
    page_size_query_param = "limit"
    page_size_query_description = "Rows per page, at most 200."
    max_page_size = 200

    def get_paginated_response(self, data: Sequence[object]) -> Response:
        """Return the page with the addresses of its neighbours, null where there is none."""
        return Response({"results": data, "next": self.get_next_link(), "previous": self.get_previous_link()})

    def get_paginated_response_schema(self, schema: dict[str, object]) -> dict[str, object]:
        """Describe the page for the OpenAPI schema."""
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["results", "next", "previous"],
            "properties": {"results": schema, "next": link, "previous": link},
        }
