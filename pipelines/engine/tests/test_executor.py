from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.files.storage import default_storage
from django.db import connection

from pipelines.engine.executor import ExecutedNode, execute_next
from pipelines.engine.supervisor import Orders, Slot
from pipelines.engine.tests.driving import SPECS, drop_other_connections, latest, started, statuses, story
from pipelines.models import Checkpoint, Event, NodeRun, Run, Status
from pipelines.services import cancel_run, retry_run
from pipelines.tests.agents import chain
from platform_site.common import store

pytestmark = pytest.mark.django_db(transaction=True)

MakeSlot = Callable[..., Slot]
Work = Callable[..., list[ExecutedNode]]


@pytest.fixture
def work(make_slot: MakeSlot) -> Work:
    """Execute what waits on both queues until nothing does."""

    def until_idle() -> list[ExecutedNode]:
        done = []
        while executed := next(
            filter(None, (execute_next(queue=queue, slot=make_slot(), specs=SPECS) for queue in ("cpu", "gpu"))), None
        ):
            done.append(executed)
        return done

    return until_idle


@pytest.fixture
def in_background(make_slot: MakeSlot) -> Iterator[Callable[[str, Orders], threading.Thread]]:
    """Execute one node of a queue in a thread."""
    threads: list[threading.Thread] = []

    def begin(queue: str, orders: Orders) -> threading.Thread:
        def run() -> None:
            try:
                execute_next(queue=queue, slot=make_slot(orders=orders), specs=SPECS)
            finally:
                connection.close()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return threads[-1]

    yield begin
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.03)


def workdirs() -> list[Path]:
    return list((Path(django_settings.VAR_DIR) / "work").glob("*"))


def artifact_text(run: Run, node: str, port: str, file: str) -> str:
    artifact = latest(run, node).outputs.get(port=port).artifact
    with store.open_stored(f"{artifact.uri}/{file}") as opened:
        return opened.read().decode()


def test_a_run_is_executed_in_real_processes_with_its_whole_story(user, work: Work) -> None:
    run = started(user, chain(train={"steps": 3}))
    done = work()
    assert [executed.node for executed in done] == ["source", "check", "split", "train"]
    assert done[2].queues == {"gpu"}
    run.refresh_from_db()
    assert run.status == Status.SUCCEEDED
    train = latest(run, "train")
    assert (train.fraction, train.step, train.total_steps) == (1.0, 3, 3)
    assert train.metrics == {"loss": pytest.approx(1 / 3), "learning_rate": 0.001}
    seqs = list(Event.objects.filter(run=run).order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(1, len(seqs) + 1))
    assert story(run)[-1] == ("", "succeeded")
    assert [row.step for row in Event.objects.filter(run=run, type="metric").order_by("seq")] == [1, 2, 3]
    assert ("source", "wrote rows") in story(run, "log")
    assert workdirs() == []


def test_artifacts_know_their_parents_and_hold_what_the_agent_made(user, work: Work) -> None:
    run = started(user, chain())
    work()
    model = latest(run, "train").outputs.get(port="model").artifact
    assert {parent.port for parent in model.parents.all()} == {"examples", "eval_examples"}
    assert model.metadata == {"model_kind": "adapter", "base_model": "bundled:none"}
    assert artifact_text(run, "source", "dataset", "rows.parquet") == "hello"
    assert (model.owner, model.node_run.node, model.is_folder) == (user, "train", True)


def test_a_user_error_fails_at_once_with_its_evidence(user, work: Work) -> None:
    run = started(user, chain(check={"fail": "user"}))
    work()
    failed = latest(run, "check")
    assert (failed.attempt, failed.error_kind, failed.error_code) == (1, "user", "invalid_input")
    assert failed.error_evidence["attempt"] == 1
    run.refresh_from_db()
    assert (run.status, run.error_node, run.error_message) == ("failed", "check", "told to fail with user")


@pytest.mark.parametrize(("kind", "attempts"), [("bug", 2), ("infrastructure", 4), ("resource", 4)])
def test_other_errors_are_tried_again_as_often_as_their_kind_allows(user, work: Work, kind: str, attempts: int) -> None:
    run = started(user, chain(check={"fail": kind}))
    work()
    failed = latest(run, "check")
    assert (failed.attempt, failed.status, failed.error_kind) == (attempts, "failed", kind)
    assert Run.objects.get(pk=run.pk).status == Status.FAILED


def test_a_passing_trouble_costs_one_attempt(user, work: Work) -> None:
    run = started(user, chain(check={"fail": "infrastructure", "fail_attempts": 1}))
    work()
    assert statuses(run)["train"] == "succeeded"
    assert [row for row in story(run) if row[0] == "check"] == [
        ("check", "queued"),
        ("check", "running"),
        ("check", "failed"),
        ("check", "queued"),
        ("check", "running"),
        ("check", "succeeded"),
    ]


def test_training_goes_on_from_its_newest_checkpoint_and_leaves_none(user, work: Work) -> None:
    run = started(user, chain(train={"steps": 5, "die_at_step": 3}))
    work()
    assert latest(run, "train").attempt == 2
    report = latest(run, "train").outputs.get(port="report").artifact
    assert report.metadata["summary"] == {"first_step": 3}
    assert ("train", "going on from step 3, which attempt 1 saved") in story(run, "log")
    steps = Event.objects.filter(run=run, type="metric").order_by("seq").values_list("attempt", "step")
    assert list(steps) == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5)]
    assert not Checkpoint.objects.exists()
    assert default_storage.listdir("checkpoints")[0] == [] or not any(Path(default_storage.path("checkpoints")).rglob("step"))


def test_an_attempt_knows_how_many_before_it_ran_out_of_memory(user, work: Work) -> None:
    run = started(user, chain(train={"steps": 2, "needed_memory_failures": 2}))
    work()
    trained = latest(run, "train")
    assert (trained.attempt, trained.status) == (3, "succeeded")


def test_a_corrupt_checkpoint_is_named_and_the_older_one_used(user, make_slot: MakeSlot, work: Work) -> None:
    run = started(user, chain(train={"steps": 5, "die_at_step": 3}))
    for queue in ("cpu", "cpu", "cpu", "gpu"):
        execute_next(queue=queue, slot=make_slot(), specs=SPECS)
    assert sorted(Checkpoint.objects.values_list("step", flat=True)) == [2, 3]
    newest = Path(default_storage.path(f"{Checkpoint.objects.get(step=3).uri}/step"))
    newest.chmod(0o644)
    newest.write_text("9")
    work()
    assert latest(run, "train").outputs.get(port="report").artifact.metadata["summary"] == {"first_step": 2}
    assert any("the checkpoint of step 3 cannot be used" in message for _, message in story(run, "log"))


def test_a_canceled_node_stops_and_the_run_ends_canceled(user, work: Work, make_slot, in_background) -> None:
    run = started(user, chain(train={"steps": 10_000}))
    for _ in range(3):
        execute_next(queue="cpu", slot=make_slot(), specs=SPECS)
    thread = in_background("gpu", Orders())
    wait_for(lambda: Event.objects.filter(run=run, type="metric").exists())
    cancel_run(run=run, user=user, specs=SPECS)
    assert (run.status, statuses(run)["train"]) == ("canceling", "canceling")
    thread.join(20)
    run.refresh_from_db()
    assert (run.status, statuses(run)["train"]) == ("canceled", "canceled")
    assert story(run)[-2:] == [("train", "canceled"), ("", "canceled")]
    assert work() == []
    retry_run(run=run, user=user, specs=SPECS)
    assert latest(run, "train").attempt == 2
    assert statuses(run)["train"] == "queued"


def test_a_worker_that_leaves_hands_its_node_on_without_counting(user, make_slot: MakeSlot, in_background) -> None:
    run = started(user, chain(train={"steps": 10_000}))
    for _ in range(3):
        execute_next(queue="cpu", slot=make_slot(), specs=SPECS)
    orders = Orders()
    thread = in_background("gpu", orders)
    wait_for(Checkpoint.objects.exists)
    orders.shutdown()
    thread.join(20)
    first, second = NodeRun.objects.filter(run=run, node="train").order_by("attempt")
    assert (first.status, first.error_code) == ("failed", "worker_stopped")
    assert (second.status, second.tries, second.not_before) == ("queued", 1, None)
    assert Run.objects.get(pk=run.pk).status == Status.RUNNING


def test_a_worker_that_lost_its_node_is_killed_and_writes_nothing(user, make_slot: MakeSlot, in_background) -> None:
    run = started(user, chain(train={"steps": 10_000}))
    for _ in range(3):
        execute_next(queue="cpu", slot=make_slot(), specs=SPECS)
    thread = in_background("gpu", Orders())
    wait_for(lambda: Event.objects.filter(run=run, type="metric").exists())
    NodeRun.objects.filter(run=run, node="train").update(lease_worker="somebody else")
    seen = Event.objects.filter(run=run).count()
    thread.join(20)
    assert not thread.is_alive()
    assert Event.objects.filter(run=run).count() - seen <= 1
    assert statuses(run)["train"] == "running"
    assert workdirs() == []


def test_a_database_that_restarts_in_mid_run_loses_nothing(user, make_slot: MakeSlot, in_background) -> None:
    run = started(user, chain(train={"steps": 40}))
    for _ in range(3):
        execute_next(queue="cpu", slot=make_slot(), specs=SPECS)
    thread = in_background("gpu", Orders())
    for seen in (2, 10, 20):
        wait_for(lambda seen=seen: Event.objects.filter(run=run, type="metric").count() >= seen)
        drop_other_connections()
    thread.join(30)
    run.refresh_from_db()
    assert (run.status, latest(run, "train").attempt) == (Status.SUCCEEDED, 1)
    steps = Event.objects.filter(run=run, type="metric").order_by("seq").values_list("step", flat=True)
    assert list(steps) == list(range(1, 41))


def test_a_node_that_writes_nothing_holds_no_connection(user, make_slot: MakeSlot, in_background) -> None:
    run = started(user, chain(check={"pause_seconds": 60}))
    execute_next(queue="cpu", slot=make_slot(), specs=SPECS)
    orders = Orders()
    thread = in_background("cpu", orders)
    wait_for(lambda: ("check", "pausing") in story(run, "log"))
    connection.close()
    pool = connection.pool
    idle = []
    for _ in range(20):
        time.sleep(0.02)
        idle.append(pool.get_stats()["pool_available"] == pool.get_stats()["pool_size"])
    assert any(idle)
    orders.shutdown()
    thread.join(20)


def test_an_output_outside_the_workdir_is_a_bug(user, work: Work) -> None:
    graph = {
        "nodes": [
            {"agent_name": "s", "agent_class": "SourceAgent"},
            {"agent_name": "c", "agent_class": "CheckAgent"},
            {"agent_name": "p", "agent_class": "PickAgent"},
        ],
        "edges": [
            {"from_agent": "s", "to_agent": "c"},
            {"from_agent": "c", "to_agent": "p", "to_port": "left"},
        ],
    }
    run = started(user, graph)
    work()
    assert (latest(run, "p").status, latest(run, "p").error_kind) == ("failed", "bug")


def test_an_input_whose_content_is_damaged_is_named_and_never_linked_again(user, work: Work, make_slot: MakeSlot) -> None:
    run = started(user, chain())
    execute_next(queue="cpu", slot=make_slot(), specs=SPECS)
    artifact = latest(run, "source").outputs.get().artifact
    path = Path(default_storage.path(f"{artifact.uri}/rows.parquet"))
    path.chmod(0o644)
    path.write_text("hellO")
    work()
    assert latest(run, "check").error_code == "content_corrupt"
    again = started(user, chain())
    assert statuses(again)["source"] == "queued"
    work()
    again.refresh_from_db()
    assert again.status == Status.SUCCEEDED


def test_nothing_waits_so_nothing_is_done(make_slot: MakeSlot, db) -> None:
    assert execute_next(queue="cpu", slot=make_slot(), specs=SPECS) is None
