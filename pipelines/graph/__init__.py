"""The graph of a pipeline, without a database: read the JSON, check it against the agents, put it in order.

    graph = parse_graph(request.data)            # shape only; raises InvalidGraph with every problem
    problems = validate(graph, catalog.agents())  # meaning: agents, ports, cycles, configs
    frozen = normalize(graph, catalog.agents())   # ports of every edge named, defaults filled in

Imports nothing of Django.
"""

from pipelines.graph.checks import normalize, validate
from pipelines.graph.configs import complete_config, config_problems
from pipelines.graph.parsing import parse_graph, read_graph
from pipelines.graph.structure import Graph, GraphEdge, GraphNode, canonical_json

__all__ = [
    "Graph",
    "GraphEdge",
    "GraphNode",
    "canonical_json",
    "complete_config",
    "config_problems",
    "normalize",
    "parse_graph",
    "read_graph",
    "validate",
]
