"""Read the pipeline JSON: shapes, names and sizes, nothing about agents."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from pipelines.graph.structure import Graph, GraphEdge, GraphNode, JsonObject
from platform_site.common.errors import InvalidGraph, Problem

MAX_NODES = 1_000
MAX_EDGES = 5_000
MAX_CONFIG_BYTES = 64 * 1024
MAX_UI_BYTES = 64 * 1024
NOT_PLAIN = "must be plain JSON: finite numbers, text without NUL or lone surrogates, not nested too deeply"
NODE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
AGENT_CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")

_TOP_KEYS = {"nodes", "edges", "ui", "run_id", "name"}  # run_id and name belong to the request around the graph
_NODE_KEYS = {"agent_name", "agent_class", "config", "ui"}
_EDGE_KEYS = {"from_agent", "to_agent", "from_port", "to_port", "ui"}


def parse_graph(data: object) -> Graph:
    """Read a graph from its JSON.

    Raises: InvalidGraph: with every problem of shape, name or size.
    """
    graph, problems = read_graph(data)
    if problems:
        raise InvalidGraph("the pipeline JSON cannot be read", errors=problems)
    return graph


def read_graph(data: object) -> tuple[Graph, list[Problem]]:
    """Read what can be read, and return it with every problem found on the way."""
    if not isinstance(data, Mapping):
        return Graph(), [Problem(message=f"must be an object with nodes and edges, got {_kind(data)}", code="invalid_shape")]
    problems = list(_unknown_keys(data, _TOP_KEYS, where="the pipeline"))
    nodes = _read_list(data, "nodes", MAX_NODES, problems)
    edges = _read_list(data, "edges", MAX_EDGES, problems)
    if not nodes and not problems:
        problems.append(Problem(message="must have at least one node", code="empty_graph", field="nodes"))
    graph = Graph(
        nodes=tuple(node for number, item in enumerate(nodes) if (node := _read_node(item, number, problems))),
        edges=tuple(edge for number, item in enumerate(edges) if (edge := _read_edge(item, number, problems))),
        ui=_read_object(data, "ui", MAX_UI_BYTES, node=None, where="ui", problems=problems),
    )
    return graph, problems + _duplicates(graph)


def size_of_json(value: object) -> int | None:
    """Return the bytes of a value as JSON; None if it is not plain: NaN, lone surrogates, NUL, or nested too deeply."""
    try:
        size_bytes = len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
        return None if _has_nul(value) else size_bytes
    except (ValueError, TypeError, RecursionError):
        return None


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, Mapping):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))


def _read_list(data: Mapping[str, object], key: str, limit: int, problems: list[Problem]) -> list[object]:
    value = data.get(key, [])
    if not isinstance(value, list):
        problems.append(Problem(message=f"must be a list, got {_kind(value)}", code="invalid_shape", field=key))
        return []
    if len(value) > limit:
        problems.append(Problem(message=f"must have at most {limit} entries, got {len(value)}", code="too_many", field=key))
        return []
    return value


def _read_node(item: object, number: int, problems: list[Problem]) -> GraphNode | None:
    where = f"nodes[{number}]"
    if not isinstance(item, Mapping):
        problems.append(Problem(message=f"must be an object, got {_kind(item)}", code="invalid_shape", field=where))
        return None
    name, agent_class = item.get("agent_name"), item.get("agent_class")
    if not isinstance(name, str) or not NODE_NAME.fullmatch(name):
        rule = "must be 1 to 64 letters, digits, '_' or '-', beginning with a letter"
        problems.append(Problem(message=f"{rule}, got {_short(name)}", code="invalid_name", field=f"{where}.agent_name"))
        return None
    problems += _unknown_keys(item, _NODE_KEYS, where=where, node=name)
    if not isinstance(agent_class, str) or not AGENT_CLASS.fullmatch(agent_class):
        message = f"must name an agent, got {_short(agent_class)}"
        problems.append(Problem(message=message, code="invalid_shape", node=name, field="agent_class"))
        return None
    return GraphNode(
        name=name,
        agent_class=agent_class,
        config=_read_object(item, "config", MAX_CONFIG_BYTES, node=name, where="config", problems=problems),
        ui=_read_object(item, "ui", MAX_UI_BYTES, node=name, where="ui", problems=problems),
    )


def _read_edge(item: object, number: int, problems: list[Problem]) -> GraphEdge | None:
    where = f"edges[{number}]"
    if not isinstance(item, Mapping):
        problems.append(Problem(message=f"must be an object, got {_kind(item)}", code="invalid_shape", field=where))
        return None
    found = len(problems)
    problems += _unknown_keys(item, _EDGE_KEYS, where=where)
    for key in ("from_agent", "to_agent"):
        if not isinstance(item.get(key), str) or not item[key]:
            message = f"must name a node, got {_short(item.get(key))}"
            problems.append(Problem(message=message, code="invalid_shape", field=f"{where}.{key}"))
    for key in ("from_port", "to_port"):
        if item.get(key) is not None and not isinstance(item[key], str):
            message = f"must name a port, got {_short(item[key])}"
            problems.append(Problem(message=message, code="invalid_shape", field=f"{where}.{key}"))
    ui = _read_object(item, "ui", MAX_UI_BYTES, node=None, where=f"{where}.ui", problems=problems)
    if len(problems) > found:
        return None
    return GraphEdge(
        from_node=item["from_agent"],
        to_node=item["to_agent"],
        from_port=item.get("from_port"),
        to_port=item.get("to_port"),
        ui=ui,
    )


def _read_object(
    data: Mapping[str, object], key: str, limit: int, *, node: str | None, where: str, problems: list[Problem]
) -> JsonObject:
    value = data.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        problems.append(Problem(message=f"must be an object, got {_kind(value)}", code="invalid_shape", node=node, field=where))
        return {}
    size_bytes = size_of_json(value)
    if size_bytes is None:
        problems.append(Problem(message=NOT_PLAIN, code="invalid_shape", node=node, field=where))
        return {}
    if size_bytes > limit:
        message = f"must be at most {limit} bytes of JSON, got {size_bytes}"
        problems.append(Problem(message=message, code="too_large", node=node, field=where))
        return {}
    return dict(value)


def _unknown_keys(item: Mapping[str, object], known: set[str], *, where: str, node: str | None = None) -> Iterator[Problem]:
    for key in item:
        if key not in known:
            message = f"{where} has the unknown key {_short(key)}; it may have {', '.join(sorted(known))}"
            yield Problem(message=message, code="unknown_key", node=node, field=str(key)[:100])


def _duplicates(graph: Graph) -> list[Problem]:
    names = [node.name for node in graph.nodes]
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return [
        Problem(
            message=f"{names.count(name)} nodes are called {name!r}; every node needs a name of its own",
            code="duplicate_node",
            node=name,
            field="agent_name",
        )
        for name in repeated
    ]


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    return {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}.get(
        type(value), type(value).__name__
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
