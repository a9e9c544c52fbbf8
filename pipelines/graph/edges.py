"""Which ports an edge joins.

An edge that names no ports links every pair of equal name and kind; if there is no such pair, the single pair that fits
by kind; if several would fit, it is refused and lists them. An edge that names one port looks among that port's pairs only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from celery_workers.contract.agent import AgentSpec
from celery_workers.contract.ports import PortSpec
from pipelines.graph.structure import Graph, GraphEdge
from platform_site.common.errors import Problem

Pair = tuple[PortSpec, PortSpec]


def resolve_edges(graph: Graph, specs: Mapping[str, AgentSpec]) -> tuple[list[GraphEdge], list[Problem]]:
    """Return every edge with its ports named, one for each pair it links, and the problems of those that cannot be."""
    resolved: list[GraphEdge] = []
    problems: list[Problem] = []
    for edge in graph.edges:
        ends = _ends(graph, edge)
        if isinstance(ends, Problem):
            problems.append(ends)
            continue
        source, target = specs.get(ends[0]), specs.get(ends[1])
        if source is None or target is None:
            continue  # the unknown agent is a problem of its node
        pairs = _pairs(edge, source, target)
        if isinstance(pairs, Problem):
            problems.append(pairs)
        else:
            resolved += [replace(edge, from_port=out.name, to_port=into.name) for out, into in pairs]
    return resolved, problems


def _ends(graph: Graph, edge: GraphEdge) -> tuple[str, str] | Problem:
    for name in (edge.from_node, edge.to_node):
        if name not in graph.by_name:
            message = f"the edge {_label(edge)} ends at {name!r}, which is not a node"
            return Problem(message=message, code="unknown_node", field="edges")
    return graph.by_name[edge.from_node].agent_class, graph.by_name[edge.to_node].agent_class


def _pairs(edge: GraphEdge, source: AgentSpec, target: AgentSpec) -> list[Pair] | Problem:
    outputs = [port for port in source.outputs if edge.from_port in (None, port.name)]
    inputs = [port for port in target.inputs if edge.to_port in (None, port.name)]
    if not outputs:
        return _no_port(edge, "output", source)
    if not inputs:
        return _no_port(edge, "input", target)
    fitting = [(out, into) for out in outputs for into in inputs if out.kind == into.kind]
    if not fitting:
        return _mismatch(edge, outputs, inputs)
    same_name = [(out, into) for out, into in fitting if out.name == into.name]
    chosen = same_name or fitting
    if not same_name and len(fitting) > 1:
        choices = "; ".join(f"{out.name} -> {into.name}" for out, into in fitting)
        message = f"the edge {_label(edge)} could mean {choices}; name from_port and to_port"
        return Problem(message=message, code="ambiguous_edge", node=edge.to_node, field="edges")
    return chosen


def _no_port(edge: GraphEdge, side: str, spec: AgentSpec) -> Problem:
    is_output = side == "output"
    node, name, ports = (
        (edge.from_node, edge.from_port, spec.outputs) if is_output else (edge.to_node, edge.to_port, spec.inputs)
    )
    known = ", ".join(port.name for port in ports) or "none"
    named = f"called {name!r}" if name is not None else "at all"
    message = f"the edge {_label(edge)} needs an {side} of {spec.class_name}, which has none {named}; it has {known}"
    return Problem(message=message, code="unknown_port", node=node, field="edges")


def _mismatch(edge: GraphEdge, outputs: list[PortSpec], inputs: list[PortSpec]) -> Problem:
    gives = ", ".join(f"{port.name} ({port.kind})" for port in outputs)
    takes = ", ".join(f"{port.name} ({port.kind})" for port in inputs)
    message = f"the edge {_label(edge)} joins different types: {edge.from_node} gives {gives}, {edge.to_node} takes {takes}"
    return Problem(message=message, code="type_mismatch", node=edge.to_node, field="edges")


def _label(edge: GraphEdge) -> str:
    start = f"{edge.from_node}.{edge.from_port}" if edge.from_port else edge.from_node
    end = f"{edge.to_node}.{edge.to_port}" if edge.to_port else edge.to_node
    return f"{start} -> {end}"
