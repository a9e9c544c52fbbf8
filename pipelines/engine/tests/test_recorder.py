from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from django.db import OperationalError, connection

from celery_workers.contract.messages import Checkpoint as CheckpointMessage
from celery_workers.contract.messages import Log, Metric, Progress
from pipelines.engine import recorder as recorder_module
from pipelines.engine.database import with_outages_survived
from pipelines.engine.recorder import Recorder
from pipelines.engine.supervisor import Orders
from pipelines.engine.tests.driving import fence_of
from pipelines.models import Checkpoint, Event, NodeRun
from pipelines.tests.factories import NodeRunFactory

pytestmark = pytest.mark.django_db(transaction=True)


def make(node_run: NodeRun) -> tuple[Recorder, Orders]:
    orders = Orders()
    return Recorder(node_run, fence=fence_of(node_run), orders=orders), orders


def log(message: str) -> Log:
    return Log(level="INFO", message=message, timestamp=time.time())


def messages(node_run: NodeRun) -> list[str]:
    return list(Event.objects.filter(run_id=node_run.run_id).order_by("seq").values_list("message", flat=True))


def end_own_connection() -> None:
    """Have the server drop this thread's connection, as a restart of PostgreSQL does."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()

    def terminate() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        connection.close()

    thread = threading.Thread(target=terminate)
    thread.start()
    thread.join()


def test_lines_are_written_in_batches_and_in_order() -> None:
    node_run = NodeRunFactory()
    recorder, _ = make(node_run)
    for number in range(recorder_module.BATCH_LINES + 10):
        recorder.on_log(log(str(number)))
    assert len(messages(node_run)) >= recorder_module.BATCH_LINES
    recorder.flush()
    assert messages(node_run) == [str(number) for number in range(recorder_module.BATCH_LINES + 10)]


def test_a_quiet_child_has_its_lines_written_after_a_moment() -> None:
    node_run = NodeRunFactory()
    recorder, _ = make(node_run)
    recorder.on_log(log("alone"))
    time.sleep(recorder_module.BATCH_SECONDS)
    recorder.on_idle()
    assert messages(node_run) == ["alone"]


def test_metrics_and_progress_reach_the_node_run() -> None:
    node_run = NodeRunFactory()
    recorder, _ = make(node_run)
    recorder.on_metric(Metric(message="step", timestamp=time.time(), step=7, epoch=0.5, loss="nan", data={"grad_norm": 2.0}))
    recorder.on_progress(Progress(fraction=0.7, step=7, total_steps=10))
    recorder.flush()
    node_run.refresh_from_db()
    assert (node_run.fraction, node_run.step, node_run.total_steps) == (0.7, 7, 10)
    assert node_run.metrics == {"loss": "nan", "grad_norm": 2.0}
    event = Event.objects.get(type="metric")
    assert (event.step, event.epoch, event.loss, event.data["loss"]) == (7, 0.5, None, "nan")


def test_a_lost_fence_writes_nothing_and_abandons() -> None:
    node_run = NodeRunFactory()
    recorder, orders = make(node_run)
    NodeRun.objects.update(attempt=2)
    recorder.on_log(log("zombie"))
    recorder.on_progress(Progress(fraction=0.9))
    recorder.flush()
    assert orders.is_abandoned
    assert messages(node_run) == []
    assert NodeRun.objects.get(pk=node_run.pk).fraction == 0


def test_a_dropped_database_connection_loses_no_line() -> None:
    node_run = NodeRunFactory()
    recorder, _ = make(node_run)
    for number in range(5):
        recorder.on_log(log(str(number)))
        recorder.flush()
        end_own_connection()
    recorder.on_log(log("5"))
    recorder.flush()
    assert messages(node_run) == ["0", "1", "2", "3", "4", "5"]


def test_an_outage_is_waited_for_until_nobody_wants_the_result() -> None:
    calls = []

    def away() -> None:
        calls.append(time.monotonic())
        raise OperationalError("away")

    with pytest.raises(OperationalError):
        with_outages_survived(away, is_pointless=lambda: len(calls) == 3)
    assert len(calls) == 3
    assert calls[2] - calls[1] > calls[1] - calls[0]


def test_the_newest_two_checkpoints_are_kept_with_their_files(tmp_path: Path) -> None:
    from django.core.files.storage import default_storage

    node_run = NodeRunFactory()
    recorder, _ = make(node_run)
    for step in (1, 2, 3):
        folder = tmp_path / str(step)
        folder.mkdir()
        (folder / "state").write_text(str(step))
        recorder.on_checkpoint(CheckpointMessage(path=str(folder), step=step))
    assert sorted(Checkpoint.objects.values_list("step", flat=True)) == [2, 3]
    kept = {row.uri for row in Checkpoint.objects.all()}
    place = Path(default_storage.path(f"checkpoints/{node_run.run_id}/{node_run.node}"))
    stored = {path.relative_to(default_storage.path("")).parent.as_posix() for path in place.rglob("state")}
    assert stored == kept
    assert "checkpoint of step 3 stored" in messages(node_run)


def test_as_many_checkpoints_are_kept_as_the_agent_asks(tmp_path: Path) -> None:
    node_run = NodeRunFactory()
    recorder, _ = make(node_run)
    (tmp_path / "state").write_text("x")
    for step in range(1, 6):
        recorder.on_checkpoint(CheckpointMessage(path=str(tmp_path), step=step, keep=3))
    assert sorted(Checkpoint.objects.values_list("step", flat=True)) == [3, 4, 5]
    recorder.on_checkpoint(CheckpointMessage(path=str(tmp_path), step=6, keep=1))
    assert sorted(Checkpoint.objects.values_list("step", flat=True)) == [6]


def test_a_checkpoint_of_a_lost_attempt_is_not_recorded(tmp_path: Path) -> None:
    node_run = NodeRunFactory()
    recorder, orders = make(node_run)
    NodeRun.objects.update(lease_worker="another")
    (tmp_path / "state").write_text("x")
    recorder.on_checkpoint(CheckpointMessage(path=str(tmp_path), step=1))
    assert orders.is_abandoned
    assert not Checkpoint.objects.exists()
