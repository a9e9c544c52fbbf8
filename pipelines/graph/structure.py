"""Nodes, edges, and what can be asked of them without knowing the agents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

JsonObject = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class GraphNode:
    """One use of an agent. ``ui`` is the canvas's own and has no meaning here."""

    name: str
    agent_class: str
    config: JsonObject = field(default_factory=dict)
    ui: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GraphEdge:
    """A link from an output port to an input port; a port is None until it was named or resolved."""

    from_node: str
    to_node: str
    from_port: str | None = None
    to_port: str | None = None
    ui: JsonObject = field(default_factory=dict, compare=False, hash=False)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A pipeline. Node names are unique, and every edge's ends exist, once ``validate`` found no problem."""

    nodes: tuple[GraphNode, ...] = ()
    edges: tuple[GraphEdge, ...] = ()
    ui: JsonObject = field(default_factory=dict)

    @cached_property
    def by_name(self) -> dict[str, GraphNode]:
        """Nodes by name; of two with one name the first."""
        return {node.name: node for node in reversed(self.nodes)}

    def edges_into(self, name: str) -> list[GraphEdge]:
        """Return the edges that end at ``name``, ordered by where they come from: the order of a list port's inputs."""
        return sorted((edge for edge in self.edges if edge.to_node == name), key=_edge_key)

    def upstream(self, name: str) -> list[str]:
        """Return the nodes that ``name`` takes inputs from, each once, sorted."""
        return sorted({edge.from_node for edge in self.edges if edge.to_node == name})

    def downstream(self, name: str) -> list[str]:
        """Return the nodes that take inputs from ``name``, each once, sorted."""
        return sorted({edge.to_node for edge in self.edges if edge.from_node == name})

    def descendants(self, name: str) -> set[str]:
        """Return every node that waits, directly or not, for ``name``."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            for child in self.downstream(waiting.pop()):
                if child not in found:
                    found.add(child)
                    waiting.append(child)
        return found

    @cached_property
    def order(self) -> list[str]:
        """Names with every upstream before its downstreams, else as in the document; nodes of a cycle and below are absent."""
        waiting = {name: set(self.upstream(name)) & self.by_name.keys() for name in dict.fromkeys(n.name for n in self.nodes)}
        done: dict[str, None] = {}
        while ready := next((name for name, parents in waiting.items() if parents <= done.keys()), None):
            done[ready] = None
            del waiting[ready]
        return list(done)

    def cycle(self) -> list[str]:
        """Return the nodes of one cycle in the direction of its edges, or nothing if there is none."""
        left = [name for name in self.by_name if name not in self.order]
        if not left:
            return []
        path = [left[0]]  # walking upwards from a node that never became ready must come back to a node already seen
        while True:
            parent = next(name for name in self.upstream(path[-1]) if name in left)
            if parent in path:
                return list(reversed(path[path.index(parent) :]))
            path.append(parent)

    def with_configs(self, configs: Mapping[str, JsonObject]) -> Graph:
        """Return the same graph with the configs of the named nodes replaced."""
        nodes = tuple(replace(node, config=configs.get(node.name, node.config)) for node in self.nodes)
        return replace(self, nodes=nodes)

    def as_json(self) -> JsonObject:
        """Return the pipeline JSON, ``ui`` included; ``parse_graph`` reads it back to an equal graph."""
        document: JsonObject = {
            "nodes": [
                _with_ui({"agent_name": n.name, "agent_class": n.agent_class, "config": n.config}, n.ui) for n in self.nodes
            ],
            "edges": [_with_ui(_edge_json(edge), edge.ui) for edge in self.edges],
        }
        return _with_ui(document, self.ui)

    @cached_property
    def sha256(self) -> str:
        """Digest of what would run: names, agents, configs and edges in a fixed order, without ``ui``."""
        nodes = [[node.name, node.agent_class, node.config] for node in sorted(self.nodes, key=lambda node: node.name)]
        edges = [_edge_key(edge) for edge in sorted(self.edges, key=_edge_key)]
        return hashlib.sha256(canonical_json({"nodes": nodes, "edges": edges}).encode()).hexdigest()


def canonical_json(value: object) -> str:
    """Return the one text of a JSON value: keys sorted, no spaces, UTF-8, no NaN.

    Raises: ValueError: a number is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _edge_key(edge: GraphEdge) -> tuple[str, str, str, str]:
    return (edge.from_node, edge.from_port or "", edge.to_node, edge.to_port or "")


def _node_json(node: GraphNode) -> JsonObject:
    return {"agent_name": node.name, "agent_class": node.agent_class, "config": node.config}


def _edge_json(edge: GraphEdge) -> JsonObject:
    document: JsonObject = {"from_agent": edge.from_node, "to_agent": edge.to_node}
    if edge.from_port is not None:
        document["from_port"] = edge.from_port
    if edge.to_port is not None:
        document["to_port"] = edge.to_port
    return document


def _with_ui(document: JsonObject, ui: JsonObject) -> JsonObject:
    return {**document, "ui": ui} if ui else document
