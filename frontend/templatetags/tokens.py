"""The way from a run to the tokens of its rows."""

from __future__ import annotations

from django import template

from frontend import token_page
from frontend.rows import NodeRow
from pipelines.models import Run

register = template.Library()


@register.simple_tag
def tokens_address(run: Run, node: NodeRow) -> str:
    """Return the address of the token view of a preprocessing node; empty for other nodes, and where the data is no dataset."""
    return token_page.tokens_address(run.version.graph, node.name) if node.agent == "PreprocessingAgent" else ""
