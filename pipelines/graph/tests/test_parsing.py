from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.graph import Graph, parse_graph, read_graph
from pipelines.graph.parsing import MAX_CONFIG_BYTES, MAX_NODES
from pipelines.tests.agents import chain, edge, node
from platform_site.common.errors import InvalidGraph

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SHAPES = st.fixed_dictionaries(
    {},
    optional={
        "nodes": JSON | st.lists(st.dictionaries(st.sampled_from(["agent_name", "agent_class", "config", "x"]), JSON)),
        "edges": JSON | st.lists(st.dictionaries(st.sampled_from(["from_agent", "to_agent", "to_port", "x"]), JSON)),
        "ui": JSON,
    },
)


def codes(data: object) -> list[tuple[str, str | None, str | None]]:
    return [(problem.code, problem.node, problem.field) for problem in read_graph(data)[1]]


def test_written_json_reads_back_to_an_equal_graph() -> None:
    graph = parse_graph({**chain(train={"steps": 2}), "ui": {"zoom": 2}})
    assert parse_graph(graph.as_json()) == graph
    assert graph.order == ["source", "check", "split", "train"]


def test_digest_ignores_ui_and_the_order_of_the_lists_and_sees_configs() -> None:
    data = chain()
    moved = {"nodes": [{**item, "ui": {"x": 1}} for item in reversed(data["nodes"])], "edges": data["edges"][::-1]}
    assert parse_graph(data).sha256 == parse_graph(moved).sha256
    assert parse_graph(data).sha256 != parse_graph(chain(train={"steps": 2})).sha256


def test_every_problem_of_shape_is_named_at_once() -> None:
    data = {
        "nodes": [
            node("a", "SourceAgent") | {"colour": "red"},
            node("a", "SourceAgent"),
            node("9 lives", "SourceAgent"),
            {"agent_name": "b"},
            {"agent_name": "c", "agent_class": "SourceAgent", "config": []},
            "text",
        ],
        "edges": [{"from_agent": "a"}, {"from_agent": "a", "to_agent": "c", "from_port": 3}],
        "version": 2,
    }
    assert codes(data) == [
        ("unknown_key", None, "version"),
        ("unknown_key", "a", "colour"),
        ("invalid_name", None, "nodes[2].agent_name"),
        ("invalid_shape", "b", "agent_class"),
        ("invalid_shape", "c", "config"),
        ("invalid_shape", None, "nodes[5]"),
        ("invalid_shape", None, "edges[0].to_agent"),
        ("invalid_shape", None, "edges[1].from_port"),
        ("duplicate_node", "a", "agent_name"),
    ]


def test_an_unknown_key_below_ui_is_kept() -> None:
    graph = parse_graph({"nodes": [node("a", "SourceAgent") | {"ui": {"colour": "red"}}], "edges": []})
    assert graph.nodes[0].ui == {"colour": "red"}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"nodes": [node(f"n{i}", "A") for i in range(MAX_NODES + 1)]}, "too_many"),
        ({"nodes": [node("a", "A", text="x" * MAX_CONFIG_BYTES)]}, "too_large"),
        ({"nodes": [node("a", "A", rate=float("nan"))]}, "invalid_shape"),
        ({"nodes": [node("a", "A", text="\ud800")]}, "invalid_shape"),
        ({"nodes": [node("a", "A", deep=[{"text": "nul \x00"}])]}, "invalid_shape"),
        ({"nodes": [{"agent_name": "a", "agent_class": "A\x00"}]}, "invalid_shape"),
        ({"nodes": []}, "empty_graph"),
        ([], "invalid_shape"),
        (None, "invalid_shape"),
    ],
)
def test_sizes_and_numbers_are_bounded(data: object, code: str) -> None:
    assert codes(data)[0][0] == code
    with pytest.raises(InvalidGraph):
        parse_graph(data)


@given(JSON | SHAPES)
def test_any_json_is_read_or_refused_but_never_breaks(data: object) -> None:
    graph, problems = read_graph(data)
    assert problems or graph.nodes


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_order_and_cycle_tell_the_same_story(pairs: list[tuple[int, int]]) -> None:
    data = {"nodes": [node(f"n{i}", "A") for i in range(8)], "edges": [edge(f"n{a}", f"n{b}") for a, b in pairs]}
    graph: Graph = parse_graph(data)
    position = {name: index for index, name in enumerate(graph.order)}
    for link in graph.edges:
        if link.to_node in position:
            assert position[link.from_node] < position[link.to_node]
    cycle = graph.cycle()
    assert bool(cycle) == (len(graph.order) < 8)
    links = {(link.from_node, link.to_node) for link in graph.edges}
    assert all(step in links for step in zip(cycle, [*cycle[1:], *cycle[:1]], strict=True))
