"""Trainings as a real MLflow server comes to know them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from mlflow.entities import Run as TrackingRun
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from celery_workers import tracker
from pipelines.events import EventLine, append
from pipelines.models import NodeRun, Run, Status, TrackedNode
from pipelines.tests.factories import NodeRunFactory, RunFactory
from pipelines.tests.scenes import give
from pipelines.tracking.follow import TAKE_IN_FOR, follow, without_password
from pipelines.tracking.tests.conftest import MlflowServer

pytestmark = [pytest.mark.xdist_group("mlflow"), pytest.mark.django_db]

CONFIG = {"method": "lora", "lora_r": 8, "target_modules": ["q_proj", "v_proj"], "max_steps": None}


def training(**fields: object) -> NodeRun:
    return NodeRunFactory(config=CONFIG, cache_parts={"inputs": {"examples": ["ab" * 32]}}, **fields)


def measure(node_run: NodeRun, steps: range, *, loss: Callable[[int], float] = lambda step: 3 / step) -> None:
    lines = [
        EventLine(
            type="metric", node=node_run.node, agent=node_run.agent, attempt=node_run.attempt, level="METRIC", step=step,
            epoch=step / 10, loss=loss(step), message="Step completed", data={"grad_norm": 0.5, "precision": "bfloat16"},
        )
        for step in steps
    ]  # fmt: skip
    append(node_run.run_id, lines)


def end(node_run: NodeRun, status: str = Status.SUCCEEDED, **fields: object) -> None:
    NodeRun.objects.filter(pk=node_run.pk).update(status=status, finished_at=timezone.now(), **fields)


def told(client: MlflowClient, node_run: NodeRun) -> TrackingRun:
    tracked = TrackedNode.objects.get(run=node_run.run, node=node_run.node)
    assert tracked.error == ""
    return client.get_run(tracked.tracking_run_id)


def history(client: MlflowClient, node_run: NodeRun, name: str = "loss") -> list[tuple[int, float]]:
    metrics = client.get_metric_history(told(client, node_run).info.run_id, name)
    return [(metric.step, metric.value) for metric in metrics]


def test_settings_curves_and_lineage_of_a_running_training(mlflow_server: MlflowServer) -> None:
    client, node_run = mlflow_server.client, training(references={"dataset:1@2": {"digest": "cd" * 32, "source": "upload"}})
    measure(node_run, range(1, 1201))
    assert follow(client) == 1200 * 3  # loss, gradient norm, epoch; text is no number

    run = told(client, node_run)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"method": "lora", "lora_r": "8", "target_modules": "q_proj, v_proj"}
    assert run.data.tags["truetune.input.examples"] == "ab" * 32
    assert run.data.tags["truetune.reference.training"] == f"dataset:1@2 sha256:{'cd' * 32}"
    assert run.data.tags["truetune.pipeline_version"] == node_run.run.version.sha256
    assert run.data.tags["mlflow.user"] == node_run.run.owner.username
    assert history(client, node_run) == [(step, 3 / step) for step in range(1, 1201)]


def test_only_what_is_new_is_sent(mlflow_server: MlflowServer) -> None:
    client, node_run = mlflow_server.client, training()
    measure(node_run, range(1, 4))
    assert follow(client) == 9
    assert follow(client) == 0
    measure(node_run, range(4, 6))
    assert follow(client) == 6
    assert [step for step, _ in history(client, node_run)] == [1, 2, 3, 4, 5]


def test_a_loss_that_is_no_number_is_seen(mlflow_server: MlflowServer) -> None:
    node_run = training()
    measure(node_run, range(1, 2), loss=lambda _step: math.nan)
    follow(mlflow_server.client)
    assert math.isnan(history(mlflow_server.client, node_run)[0][1])


@pytest.mark.parametrize(
    ("status", "expected"), [(Status.SUCCEEDED, "FINISHED"), (Status.FAILED, "FAILED"), (Status.CANCELED, "KILLED")]
)
def test_the_end_is_told(mlflow_server: MlflowServer, status: str, expected: str) -> None:
    client, node_run = mlflow_server.client, training()
    measure(node_run, range(1, 3))
    end(node_run, status, error_code="" if status == Status.SUCCEEDED else "not_finite", error_message="step 2 gave loss nan")
    follow(client)
    run = told(client, node_run)
    assert run.info.status == expected
    assert run.data.tags["truetune.status"] == status
    assert ("truetune.error" in run.data.tags) == (status != Status.SUCCEEDED)
    assert run.info.end_time >= run.info.start_time
    assert len(history(client, node_run)) == 2
    assert follow(client) == 0


def test_report_and_adapter_are_there_to_look_at(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    client, node_run = mlflow_server.client, training()
    report, adapter = tmp_path / "report.json", tmp_path / "adapter"
    report.write_text('{"kind": "training"}')
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    give(node_run.run, "training", "report", "report", report, {})
    model = give(node_run.run, "training", "model", "model", adapter, {})
    end(node_run)
    follow(client)
    run = told(client, node_run)
    assert run.data.tags["truetune.output.model.0"] == model.sha256
    fetched = Path(client.download_artifacts(run.info.run_id, "report/report.json", str(tmp_path)))
    assert json.loads(fetched.read_text()) == {"kind": "training"}
    assert [item.path for item in client.list_artifacts(run.info.run_id, "model")] == ["model/adapter_config.json"]


def test_attempts_are_one_run_and_a_repeated_step_comes_once(mlflow_server: MlflowServer) -> None:
    client, first = mlflow_server.client, training()
    measure(first, range(1, 8))
    end(first, Status.FAILED)
    follow(client)
    second = training(run=first.run, attempt=2)
    measure(second, range(5, 11))
    follow(client)
    assert told(client, second).info.status == "RUNNING"
    end(second)
    follow(client)
    assert TrackedNode.objects.count() == 1
    run = told(client, second)
    assert (run.info.status, run.data.tags["truetune.attempt"]) == ("FINISHED", "2")
    assert [step for step, _ in history(client, second)] == list(range(1, 11))


def test_a_run_that_was_made_and_forgotten_is_found_again(mlflow_server: MlflowServer) -> None:
    client, node_run = mlflow_server.client, training()
    follow(client)
    made = told(client, node_run).info.run_id
    TrackedNode.objects.update(tracking_run_id="", experiment_id="")
    measure(node_run, range(1, 3))
    follow(client)
    assert told(client, node_run).info.run_id == made


def test_a_server_that_is_away_loses_nothing(mlflow_server: MlflowServer) -> None:
    node_run = training()
    measure(node_run, range(1, 4))
    with pytest.raises(MlflowException):
        follow(MlflowClient("http://127.0.0.1:9"))
    end(node_run)
    NodeRun.objects.update(finished_at=timezone.now() - 2 * TAKE_IN_FOR)  # noticed once, it waits as long as it takes
    follow(mlflow_server.client)
    assert told(mlflow_server.client, node_run).info.status == "FINISHED"
    assert len(history(mlflow_server.client, node_run)) == 3


def test_what_the_server_refuses_of_one_node_does_not_hold_up_another(mlflow_server: MlflowServer) -> None:
    broken, healthy = training(), training()
    TrackedNode.objects.create(run=broken.run, node=broken.node, experiment_id="0", tracking_run_id="f" * 32)
    for node_run in (broken, healthy):
        measure(node_run, range(1, 3))
    assert follow(mlflow_server.client) == 6
    assert "not found" in TrackedNode.objects.get(run=broken.run).error
    assert TrackedNode.objects.get(run=broken.run).last_steps == {}
    assert len(history(mlflow_server.client, healthy)) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"cached": True},
        {"agent": "DatasetAgent"},
        {"started_at": None, "status": Status.QUEUED},
        {"status": Status.SUCCEEDED, "finished_at": timezone.now() - TAKE_IN_FOR - timedelta(minutes=1)},
    ],
    ids=["cached", "no training", "not begun", "ended long ago"],
)
def test_what_trains_nothing_now_is_not_told(mlflow_server: MlflowServer, fields: dict[str, object]) -> None:
    training(**fields)
    assert follow(mlflow_server.client) == 0
    assert not TrackedNode.objects.exists()


def test_a_run_deleted_meanwhile_is_let_go(mlflow_server: MlflowServer) -> None:
    node_run = training()
    follow(mlflow_server.client)
    Run.objects.all().delete()
    measure(training(run=RunFactory()), range(1, 2))
    assert follow(mlflow_server.client) == 3
    assert not TrackedNode.objects.filter(run=node_run.run_id).exists()


@pytest.mark.django_db(transaction=True)
def test_the_workers_thread_follows_and_outlives_a_pause(mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "INTERVAL_SECONDS", 0.2)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    node_run = training()
    thread = tracker.Tracker(mlflow_server.url)
    thread.start()
    try:
        measure(node_run, range(1, 3))
        wait_for(lambda: TrackedNode.objects.filter(last_seq=2).exists())
        mlflow_server.pause()
        measure(node_run, range(3, 5))  # a training's own writes wait for nothing
        time.sleep(1.5)
        mlflow_server.go_on()
        wait_for(lambda: TrackedNode.objects.filter(last_seq=4, error="").exists())
        assert [step for step, _ in history(mlflow_server.client, node_run)] == [1, 2, 3, 4]
    finally:
        mlflow_server.go_on()
        thread.end()
        thread.join(30)
    assert not thread.is_alive()


def test_no_password_is_kept_or_logged() -> None:
    assert without_password("API request to https://ada:secret@mlflow.example/api failed") == (
        "API request to https://***@mlflow.example/api failed"
    )


def wait_for(claim: Callable[[], object], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
