"""Resolve the references of a whole graph, and bring one to a local path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from celery_workers.contract.agent import AgentSpec
from celery_workers.contract.errors import InfrastructureError, ResourceError, UserInputError
from pipelines.graph import Graph, complete_config, config_problems
from pipelines.references.base_models import materialize_base_model, resolve_base_model
from pipelines.references.data import materialize_data, resolve_data
from pipelines.references.find import ReferenceKind, find_references
from pipelines.references.resolution import Resolution, UnresolvedReference
from platform_site.common.errors import Problem, StorageFull, Unavailable
from platform_site.common.store import ContentCorrupt, ContentMissing

if TYPE_CHECKING:
    from platform_site.models import User


def resolve(value: str, kind: ReferenceKind, *, user: User) -> Resolution:
    """Say what ``value`` stands for now. May ask the hub or the object store: call it outside transactions.

    Raises: UnresolvedReference.
    """
    return resolve_data(value, user) if kind == ReferenceKind.DATA else resolve_base_model(value, user)


def resolve_graph(
    graph: Graph, specs: Mapping[str, AgentSpec], *, user: User
) -> tuple[dict[str, dict[str, Resolution]], list[Problem]]:
    """Resolve every reference of a graph: resolutions by node and value, problems by node and field.

    Nodes of unknown agents, or with configs that are refused, are left out: ``validate`` tells of those.
    """
    known: dict[tuple[str, ReferenceKind], Resolution | UnresolvedReference] = {}
    resolved: dict[str, dict[str, Resolution]] = {node.name: {} for node in graph.nodes}
    problems: list[Problem] = []
    for node in graph.nodes:
        spec = specs.get(node.agent_class)
        if spec is None or config_problems(spec, node):
            continue
        for found in find_references(spec, complete_config(spec, node.config)):
            key = (found.value, found.kind)
            if key not in known:
                known[key] = _try_resolve(found.value, found.kind, user)
            answer = known[key]
            if isinstance(answer, UnresolvedReference):
                problems.append(Problem(message=answer.detail, code=answer.error_code, node=node.name, field=found.field))
            else:
                resolved[node.name][found.value] = answer
    return resolved, problems


def materialize(value: str, resolution: Resolution, *, folder: Path) -> Path:
    """Return a local path with exactly the content that was resolved; copies go below ``folder`` or the model caches.

    Raises: UserInputError, InfrastructureError, ResourceError: what an attempt fails with.
    """
    try:
        if resolution.kind == ReferenceKind.DATA:
            return materialize_data(value, resolution, folder)
        return materialize_base_model(value, resolution)
    except ContentMissing as error:
        raise UserInputError(f"the content of {value} has been deleted", code="reference_missing") from error
    except ContentCorrupt as error:
        raise InfrastructureError(f"the stored content of {value} is damaged: {error}", code="content_corrupt") from error
    except StorageFull as error:
        raise ResourceError(error.detail, code="disk_full") from error
    except Unavailable as error:
        raise InfrastructureError(error.detail, code="store_unavailable") from error


def _try_resolve(value: str, kind: ReferenceKind, user: User) -> Resolution | UnresolvedReference:
    try:
        return resolve(value, kind, user=user)
    except UnresolvedReference as error:
        return error
