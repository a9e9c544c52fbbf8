from __future__ import annotations

import pytest

from pipelines.graph import normalize, parse_graph, validate
from pipelines.tests.agents import chain, edge, node, specs


def found(data: dict[str, object]) -> list[tuple[str, str | None, str | None]]:
    return [(problem.code, problem.node, problem.field) for problem in validate(parse_graph(data), specs())]


def message(data: dict[str, object]) -> str:
    (problem,) = validate(parse_graph(data), specs())
    return problem.message


def test_a_good_graph_has_no_problem() -> None:
    assert found(chain()) == []


def test_an_edge_without_ports_links_every_pair_of_equal_name_and_kind() -> None:
    edges = normalize(parse_graph(chain()), specs()).edges
    assert {(e.from_node, e.from_port, e.to_node, e.to_port) for e in edges} == {
        ("source", "dataset", "check", "dataset"),
        ("check", "dataset", "split", "dataset"),
        ("split", "examples", "train", "examples"),
        ("split", "eval_examples", "train", "eval_examples"),
    }


def test_an_edge_without_ports_takes_the_single_pair_that_fits_by_kind() -> None:
    data = chain()
    data["nodes"].append(node("join", "JoinAgent"))
    data["edges"] += [edge("check", "join"), edge("train", "join")]
    graph = normalize(parse_graph(data), specs())
    assert [(e.from_node, e.from_port, e.to_port) for e in graph.edges_into("join")] == [
        ("check", "report", "reports"),
        ("train", "report", "reports"),
    ]


def test_an_ambiguous_edge_lists_what_it_could_mean() -> None:
    data = {
        "nodes": [node("s", "SourceAgent"), node("c", "CheckAgent"), node("p", "PickAgent")],
        "edges": [edge("s", "c"), edge("c", "p")],
    }
    assert message(data) == "the edge c -> p could mean report -> left; report -> right; name from_port and to_port"
    data["edges"][1] = edge("c", "p.left")
    assert found(data) == []


def test_edges_of_wrong_type_unknown_port_and_unknown_node_are_named() -> None:
    data = {
        "nodes": [node("s", "SourceAgent"), node("c", "CheckAgent"), node("j", "JoinAgent"), node("k", "JoinAgent")],
        "edges": [edge("s", "c"), edge("s", "j"), edge("c.rows", "k"), edge("c", "nowhere")],
    }
    assert found(data) == [
        ("type_mismatch", "j", "edges"),
        ("unknown_port", "c", "edges"),
        ("unknown_node", None, "edges"),
    ]


def test_a_missing_input_says_who_could_give_it() -> None:
    data = {"nodes": [node("s", "SourceAgent"), node("c", "CheckAgent")], "edges": []}
    assert message(data) == "input 'dataset' needs an edge that brings a dataset; s could give it"


def test_a_single_port_takes_one_edge_and_a_repeated_edge_is_refused() -> None:
    data = {
        "nodes": [node("a", "SourceAgent"), node("b", "SourceAgent"), node("c", "CheckAgent")],
        "edges": [edge("a", "c"), edge("b", "c"), edge("b", "c.dataset")],
    }
    assert found(data) == [("repeated_edge", "c", "edges"), ("too_many_edges", "c", "dataset")]


def test_a_cycle_names_its_nodes() -> None:
    data = {
        "nodes": [node("a", "CheckAgent"), node("b", "CheckAgent"), node("c", "CheckAgent")],
        "edges": [edge("a", "b"), edge("b", "a"), edge("b", "c")],
    }
    assert message(data) in ("the edges form a cycle: a -> b -> a", "the edges form a cycle: b -> a -> b")


def test_an_unknown_agent_gets_a_hint() -> None:
    assert message({"nodes": [node("a", "SauceAgent")]}) == "there is no agent 'SauceAgent'; did you mean SourceAgent?"


@pytest.mark.parametrize(
    ("config", "field", "text"),
    [
        ({"learning_rate": 2}, "learning_rate", "must be <= 1, got 2"),
        ({"learning_rate": "fast"}, "learning_rate", "must be a number, got 'fast'"),
        ({"steps": 1.5}, "steps", "must be a whole number, got 1.5"),
        ({"learning_rte": 0.1}, "learning_rte", "TrainAgent has no setting 'learning_rte'; did you mean 'learning_rate'?"),
    ],
)
def test_a_config_error_has_node_field_rule_limit_and_value(config: dict[str, object], field: str, text: str) -> None:
    (problem,) = validate(parse_graph(chain(train=config)), specs())
    assert (problem.node, problem.field, problem.message) == ("train", field, text)


def test_reference_and_choice_errors_speak_for_themselves() -> None:
    problems = validate(parse_graph(chain(source={"file_path": "/etc/passwd"}, check={"fail": "no"})), specs())
    assert [(problem.node, problem.field) for problem in problems] == [("source", "file_path"), ("check", "fail")]
    assert problems[0].message.startswith("must be dataset:<id>[@version], s3://bucket/key or example:<name>, got '/etc")
    assert problems[1].message == "must be one of '', 'user', 'resource', 'infrastructure' or 'bug', got 'no'"


def test_all_problems_come_at_once() -> None:
    data = chain(train={"steps": 0}, check={"fail": "no"})
    data["nodes"].append(node("ghost", "GhostAgent"))
    assert {code for code, _, _ in found(data)} == {"invalid_config", "unknown_agent"}
    assert len(found(data)) == 3


def test_a_normal_graph_has_its_defaults_and_reads_back() -> None:
    graph = normalize(parse_graph(chain()), specs())
    assert graph.by_name["train"].config == {"learning_rate": 0.001, "steps": 4, "die_at_step": 0, "needed_memory_failures": 0}
    assert normalize(parse_graph(graph.as_json()), specs()).sha256 == graph.sha256
    with pytest.raises(ValueError, match="is not a node"):
        normalize(parse_graph({**chain(), "edges": [edge("source", "nowhere")]}), specs())
