from __future__ import annotations

import json

from pipelines.catalog import agents, catalogue, describe_agent
from pipelines.tests.agents import specs


def test_an_entry_has_ports_schema_and_defaults() -> None:
    entry = describe_agent(specs()["TrainAgent"])
    assert (entry["name"], entry["class"], entry["queue"], entry["category"]) == ("train", "TrainAgent", "gpu", "Training")
    assert entry["ports"]["inputs"] == [
        {"name": "examples", "kind": "examples", "required": True, "many": False},
        {"name": "eval_examples", "kind": "examples", "required": False, "many": False},
    ]
    assert entry["defaults"] == {"learning_rate": 0.001, "steps": 4, "die_at_step": 0, "needed_memory_failures": 0}
    assert entry["config_schema"]["properties"]["steps"]["minimum"] == 1


def test_the_catalogue_is_json_with_one_entry_for_each_agent() -> None:
    entries = json.loads(json.dumps(catalogue(), allow_nan=False))
    assert [entry["class"] for entry in entries] == list(agents())
