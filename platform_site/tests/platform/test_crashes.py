"""Parts die in the middle of a training; the run succeeds, and its history is whole."""

from __future__ import annotations

import time

import pytest

from platform_site.tests.platform.harness import Platform, chat_rows, pipeline, wait_for


def new_seed() -> int:
    """A seed that no cached training has."""
    return time.time_ns() % 2**32


@pytest.fixture
def training_run(platform: Platform) -> str:
    """A run in the middle of a training that takes a while and saves often; never taken from the cache."""
    dataset = platform.upload(chat_rows(60), name="crashes")
    training = {"epochs": 1000, "max_steps": 60, "batch_size": 1, "checkpoint_every_steps": 5, "seed": new_seed()}
    run_id = platform.start_run(pipeline(dataset, training=training, full=False))
    platform.wait_for_step(run_id, "training", 7)
    return run_id


def attempts(platform: Platform, run_id: str) -> int:
    (training,) = (node for node in platform.get(f"/jobs/{run_id}")["nodes"] if node["name"] == "training")
    return training["attempt"]


def assert_whole(events: list[dict]) -> None:
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["data"]["status"] == "succeeded"


def steps(events: list[dict], attempt: int) -> list[int]:
    metrics = [event for event in events if event["node"] == "training" and event["type"] == "metric"]
    return [event["step"] for event in metrics if event["attempt"] == attempt and event.get("loss") is not None]


def test_worker_killed_in_a_training_resumes_from_its_checkpoint(platform: Platform, training_run: str):
    worker = platform.process("-Q", "gpu")
    worker.kill()
    killed_at = time.monotonic()
    wait_for(lambda: attempts(platform, training_run) == 2, seconds=45, what="a second attempt")
    recovered_after = time.monotonic() - killed_at
    job = platform.wait_until_ended(training_run)
    assert job["status"] == "succeeded", job
    events = platform.history(training_run)
    assert_whole(events)
    assert steps(events, 2)[0] > 5
    assert recovered_after < 45


def test_agent_process_killed_in_a_training_resumes_from_its_checkpoint(platform: Platform, training_run: str):
    worker = platform.process("-Q", "gpu")
    busiest = max(worker.children(recursive=True), key=lambda process: sum(process.cpu_times()[:2]))
    busiest.kill()
    job = platform.wait_until_ended(training_run)
    assert job["status"] == "succeeded", job
    events = platform.history(training_run)
    assert_whole(events)
    assert steps(events, 2)[0] > 5


def test_valkey_away_in_a_training_costs_nothing(running, training_run: str):
    platform, valkey = running.platform, running.valkey
    valkey.stop()
    try:
        assert platform.request("GET", "/jobs").status_code == 200
        time.sleep(8)
    finally:
        valkey.start()
        valkey.wait_ready()
    job = platform.wait_until_ended(training_run)
    assert job["status"] == "succeeded", job
    assert attempts(platform, training_run) == 1
    assert_whole(platform.history(training_run))


def test_run_started_while_valkey_is_away_goes_ahead(running):
    platform, valkey = running.platform, running.valkey
    dataset = platform.upload(chat_rows(30), name="away")
    valkey.stop()
    try:
        run_id = platform.start_run(pipeline(dataset, training={"max_steps": 3, "seed": new_seed()}, full=False))
    finally:
        valkey.start()
        valkey.wait_ready()
    assert platform.wait_until_ended(run_id)["status"] == "succeeded"
    assert_whole(platform.history(run_id))


def test_beat_and_web_that_die_come_back(platform: Platform):
    for words in (["uvicorn"], ["beat"]):
        before = platform.process(*words)
        before.kill()
        wait_for(lambda before=before, words=words: _is_back(platform, words, before.pid), seconds=20, what=f"{words} again")
    wait_for(platform._is_ready_or_ended, seconds=20, what="/ready")


def _is_back(platform: Platform, words: list[str], pid: int) -> bool:
    try:
        return platform.process(*words).pid != pid
    except AssertionError:
        return False
