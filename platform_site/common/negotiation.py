"""Content negotiation for views that answer with bytes or text of their own."""

from __future__ import annotations

from collections.abc import Sequence

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class AnyAccept(BaseContentNegotiation):
    """Every Accept header is served, and ``?format=`` is left to the view; errors are JSON."""

    def select_parser(self, request: Request, parsers: Sequence[object]) -> object:  # noqa: ARG002 (the framework's signature)
        """Return the first parser; there is no body."""
        return parsers[0]

    def select_renderer(
        self,
        request: Request,  # noqa: ARG002
        renderers: Sequence[BaseRenderer],
        format_suffix: str | None = None,  # noqa: ARG002
    ) -> tuple[BaseRenderer, str]:
        """Return the JSON renderer, which errors use."""
        return renderers[0], renderers[0].media_type
