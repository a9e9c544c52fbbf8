"""Whether a graph can run, as far as the graph alone tells."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from celery_workers.contract.agent import AgentSpec
from pipelines.graph.configs import complete_config, config_problems
from pipelines.graph.edges import resolve_edges
from pipelines.graph.structure import Graph, GraphEdge, GraphNode
from platform_site.common.errors import Problem


def validate(graph: Graph, specs: Mapping[str, AgentSpec]) -> list[Problem]:
    """Return everything wrong with the graph: agents, edges, ports, cycles and configs, all at once."""
    edges, problems = resolve_edges(graph, specs)
    problems = [*_unknown_agents(graph, specs), *problems, *_repeated_edges(edges), *_port_counts(graph, edges, specs)]
    if cycle := graph.cycle():
        path = " -> ".join([*cycle, cycle[0]])
        problems.append(Problem(message=f"the edges form a cycle: {path}", code="cycle", node=cycle[0], field="edges"))
    for node in graph.nodes:
        if spec := specs.get(node.agent_class):
            problems += config_problems(spec, node)
    return problems


def normalize(graph: Graph, specs: Mapping[str, AgentSpec]) -> Graph:
    """Return the graph as it will run for ever: the ports of every edge named, defaults filled in.

    Raises: ValueError: ``validate`` finds a problem.
    """
    edges, problems = resolve_edges(graph, specs)
    if problems:
        raise ValueError(problems[0].message)
    configs = {node.name: complete_config(specs[node.agent_class], node.config) for node in graph.nodes}
    return replace(graph, edges=tuple(edges)).with_configs(configs)


def _unknown_agents(graph: Graph, specs: Mapping[str, AgentSpec]) -> Iterator[Problem]:
    for node in graph.nodes:
        if node.agent_class in specs:
            continue
        near = difflib.get_close_matches(node.agent_class, specs, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(specs))}"
        message = f"there is no agent {node.agent_class[:80]!r}{hint}"
        yield Problem(message=message, code="unknown_agent", node=node.name, field="agent_class")


def _repeated_edges(edges: Sequence[GraphEdge]) -> Iterator[Problem]:
    for edge, count in Counter(edges).items():
        if count > 1:
            message = (
                f"{edge.from_node}.{edge.from_port} -> {edge.to_node}.{edge.to_port} is linked {count} times; once is enough"
            )
            yield Problem(message=message, code="repeated_edge", node=edge.to_node, field="edges")


def _port_counts(graph: Graph, edges: Sequence[GraphEdge], specs: Mapping[str, AgentSpec]) -> Iterator[Problem]:
    for node in graph.nodes:
        spec = specs.get(node.agent_class)
        for port in spec.inputs if spec else []:
            links = {edge for edge in edges if (edge.to_node, edge.to_port) == (node.name, port.name)}
            if port.is_required and not links and not _has_refused_edge(graph, edges, node.name):
                yield _missing_input(node, port.name, port.kind, graph, specs)
            if len(links) > 1 and not port.takes_many:
                found = ", ".join(sorted(f"{edge.from_node}.{edge.from_port}" for edge in links))
                message = f"input {port.name!r} takes one edge, got {len(links)}: {found}"
                yield Problem(message=message, code="too_many_edges", node=node.name, field=port.name)


def _has_refused_edge(graph: Graph, edges: Sequence[GraphEdge], name: str) -> bool:
    """Say whether an edge into the node could not be resolved: its own problem is enough."""
    return {edge.from_node for edge in edges if edge.to_node == name} != set(graph.upstream(name))


def _missing_input(node: GraphNode, port: str, kind: str, graph: Graph, specs: Mapping[str, AgentSpec]) -> Problem:
    givers = [
        other.name
        for other in graph.nodes
        if other.name != node.name
        and (spec := specs.get(other.agent_class))
        and any(output.kind == kind for output in spec.outputs)
    ]
    hint = f"; {', '.join(sorted(givers)[:5])} could give it" if givers else ""
    message = f"input {port!r} needs an edge that brings {_article(kind)} {kind}{hint}"
    return Problem(message=message, code="missing_input", node=node.name, field=port)


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
