"""Numbers without gaps, fences that hold, and a Valkey that may be away."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
import redis
from django.db import connection, transaction
from django.utils import timezone

from pipelines.events import EventLine, Fence, append, read
from pipelines.events import write as write_module
from pipelines.events.valkey import stream_name, writing_client
from pipelines.models import Event, NodeRun, Run, Status
from pipelines.tests.factories import NodeRunFactory, RunFactory

pytestmark = pytest.mark.django_db(transaction=True)


def lines(count: int, label: str = "line") -> list[EventLine]:
    return [EventLine(type="log", node="training", message=f"{label} {number}") for number in range(count)]


def seqs(run: Run) -> list[int]:
    return list(Event.objects.filter(run=run).order_by("seq").values_list("seq", flat=True))


def streamed(run: Run) -> list[str]:
    return [fields[b"event"].decode() for _, fields in writing_client().xrange(stream_name(run.id))]


def test_concurrent_writers_number_without_gaps():
    run = RunFactory()
    errors: list[BaseException] = []

    def write(label: str) -> None:
        try:
            for _ in range(20):
                append(run.id, lines(7, label))
        except BaseException as error:  # noqa: BLE001 (shown by the assertion below)
            errors.append(error)
        finally:
            connection.close()

    writers = [threading.Thread(target=write, args=(f"writer {number}",)) for number in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert errors == []
    assert seqs(run) == list(range(1, 6 * 20 * 7 + 1))
    run.refresh_from_db()
    assert run.last_seq == 840


def test_the_live_stream_carries_the_stored_lines():
    run = RunFactory()

    last = append(run.id, lines(3))

    assert last == 3
    assert streamed(run) == [event.text for event in read(run.id)]
    assert 0 < writing_client().ttl(stream_name(run.id)) <= 86_400


def test_a_resend_adds_nothing():
    run = RunFactory()
    append(run.id, lines(3))

    write_module.publish(run.id, read(run.id))

    assert len(streamed(run)) == 3


def test_a_rolled_back_transaction_leaves_no_line_and_no_number():
    run = RunFactory()

    def append_and_fail() -> None:
        with transaction.atomic():
            append(run.id, lines(2))
            raise RuntimeError("later failure")

    with pytest.raises(RuntimeError, match="later failure"):
        append_and_fail()

    append(run.id, lines(1, "after"))

    assert [event.json["message"] for event in read(run.id)] == ["after 0"]
    assert len(streamed(run)) == 1


def test_lines_show_only_after_the_callers_commit():
    run = RunFactory()

    with transaction.atomic():
        append(run.id, lines(1))
        before_commit = streamed(run)

    assert before_commit == []
    assert len(streamed(run)) == 1


def test_an_unknown_run_is_an_error():
    run = RunFactory()
    Run.objects.all().delete()

    with pytest.raises(Run.DoesNotExist):
        append(run.id, lines(1))


class TestFence:
    @pytest.fixture
    def held(self):
        return NodeRunFactory(lease_expires_at=timezone.now() + timedelta(seconds=20))

    def fence(self, node_run: NodeRun, **changed) -> Fence:
        values = {"node_run_id": node_run.id, "attempt": node_run.attempt, "worker": node_run.lease_worker} | changed
        return Fence(**values)

    @pytest.mark.parametrize("status", [Status.RUNNING, Status.CANCELING])
    def test_the_holder_writes(self, held, status):
        NodeRun.objects.filter(pk=held.pk).update(status=status)

        assert append(held.run_id, lines(2), fence=self.fence(held)) == 2

    @pytest.mark.parametrize("changed", [{"attempt": 2}, {"worker": "worker-2"}])
    def test_another_attempt_or_worker_writes_nothing(self, held, changed):
        assert append(held.run_id, lines(2), fence=self.fence(held, **changed)) is None

        assert seqs(held.run) == []
        held.run.refresh_from_db()
        assert held.run.last_seq == 0

    @pytest.mark.parametrize("status", [Status.QUEUED, Status.SUCCEEDED, Status.FAILED, Status.CANCELED])
    def test_an_attempt_that_is_over_writes_nothing(self, held, status):
        NodeRun.objects.filter(pk=held.pk).update(status=status)

        assert append(held.run_id, lines(1), fence=self.fence(held)) is None

    def test_a_zombie_that_waited_for_the_run_sees_that_its_lease_was_taken(self, held):
        answers: list[int | None] = []

        def write_as_zombie() -> None:
            answers.append(append(held.run_id, lines(1, "zombie"), fence=self.fence(held)))
            connection.close()

        with transaction.atomic():
            append(held.run_id, [EventLine(type="status", node="training", message="requeued", data={"status": "queued"})])
            zombie = threading.Thread(target=write_as_zombie)
            zombie.start()
            _wait_until_blocked()
            NodeRun.objects.filter(pk=held.pk).update(status=Status.QUEUED, lease_worker="")
        zombie.join()

        assert answers == [None]
        assert [event.json["message"] for event in read(held.run_id)] == ["requeued"]


def _wait_until_blocked() -> None:
    """Wait until another connection waits for a lock of this one."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            if cursor.fetchone()[0]:
                return
        time.sleep(0.01)
    pytest.fail("no writer waited for the run's lock")


class TestWithoutValkey:
    @pytest.fixture(autouse=True)
    def _unreachable(self, settings):
        settings.REDIS_URL = "redis://127.0.0.1:1/0"
        writing_client.cache_clear()
        yield
        writing_client.cache_clear()
        write_module._pause = write_module._Pause()

    def test_the_writer_goes_on_and_history_is_complete(self):
        run = RunFactory()
        started = time.monotonic()

        for _ in range(20):
            append(run.id, lines(5))

        assert time.monotonic() - started < 3
        assert seqs(run) == list(range(1, 101))

    def test_after_a_failure_it_is_left_alone_for_a_while(self):
        run = RunFactory()
        append(run.id, lines(1))

        assert write_module._pause.is_on()


def test_a_hanging_valkey_costs_less_than_half_a_second(settings):
    import socket

    run = RunFactory()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        writing_client.cache_clear()
        started = time.monotonic()
        append(run.id, lines(1))
        took_seconds = time.monotonic() - started
    writing_client.cache_clear()
    write_module._pause = write_module._Pause()

    assert took_seconds < 1.0
    assert seqs(run) == [1]


def test_another_error_of_valkey_is_skipped_too():
    run = RunFactory()
    writing_client().set(stream_name(run.id), "not a stream")

    append(run.id, lines(1))

    assert seqs(run) == [1]
    assert write_module._pause.is_on()
    write_module._pause = write_module._Pause()
    assert isinstance(writing_client(), redis.Redis)
