"""The main job, from an upload to a tested adapter, over the public REST API alone."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from platform_site.tests.platform.harness import Platform, chat_rows, pipeline

NODES = ["dataset", "validation", "preprocessing", "training", "evaluation_base", "evaluation", "comparison", "export"]


@pytest.fixture(scope="module")
def finished(running) -> tuple[dict, dict]:
    """A dataset and the ended job over it."""
    platform = running.platform
    dataset = platform.upload(chat_rows(60), name="sums")
    run_id = platform.start_run(pipeline(dataset, training={"epochs": 1}))
    return dataset, platform.wait_until_ended(run_id)


def output(job: dict, node: str, port: str) -> str:
    (node_json,) = (item for item in job["nodes"] if item["name"] == node)
    return next(item["id"] for item in node_json["outputs"] if item["port"] == port)


def test_every_node_succeeds(finished):
    _, job = finished
    assert job["status"] == "succeeded", job
    assert {node["name"]: node["status"] for node in job["nodes"]} == dict.fromkeys(NODES, "succeeded")


def test_comparison_has_base_beside_tuned_with_an_interval(platform: Platform, finished):
    _, job = finished
    report = platform.get(f"/artifacts/{output(job, 'comparison', 'report')}/download")
    text = json.dumps(report)
    assert "base" in text
    assert "tuned" in text
    assert "interval" in text


def test_adapter_downloads_as_a_zip_with_its_weights(platform: Platform, finished):
    _, job = finished
    answer = platform.request("GET", f"/artifacts/{output(job, 'export', 'adapter')}/download")
    names = [name.rpartition("/")[2] for name in zipfile.ZipFile(io.BytesIO(answer.content)).namelist()]
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(names)


def test_same_job_again_runs_nothing(platform: Platform, finished):
    dataset, _ = finished
    run_id = platform.start_run(pipeline(dataset, training={"epochs": 1}))
    job = platform.wait_until_ended(run_id)
    assert job["status"] == "succeeded"
    assert all(node["cached"] for node in job["nodes"])


def test_changed_learning_rate_repeats_only_what_depends_on_it_and_says_why(platform: Platform, finished):
    dataset, _ = finished
    run_id = platform.start_run(pipeline(dataset, training={"epochs": 1, "learning_rate": 0.0005}))
    job = platform.wait_until_ended(run_id)
    assert job["status"] == "succeeded"
    nodes = {node["name"]: node for node in job["nodes"]}
    assert {name for name, node in nodes.items() if not node["cached"]} == {"training", "evaluation", "comparison", "export"}
    assert "learning_rate" in nodes["training"]["cache_note"]


def test_cancel_in_the_middle_of_a_training_ends_it_as_canceled(platform: Platform, finished):
    dataset, _ = finished
    run_id = platform.start_run(pipeline(dataset, training={"epochs": 1000, "learning_rate": 0.0001}, full=False))
    platform.wait_for_step(run_id, "training", 3)
    assert platform.request("DELETE", f"/jobs/{run_id}").status_code == 202
    job = platform.wait_until_ended(run_id, seconds=60)
    assert job["status"] == "canceled"
    assert {node["name"]: node["status"] for node in job["nodes"]}["training"] == "canceled"
