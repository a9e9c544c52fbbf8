"""One event looks the same to every reader, whatever is in it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipelines.events import EventLine, append, read
from pipelines.events.lines import MAX_MESSAGE_CHARACTERS, cleaned, stored
from pipelines.tests.factories import RunFactory

pytestmark = pytest.mark.django_db
WHEN = datetime(2025, 12, 13, 1, 30, 0, 999_900, tzinfo=UTC)


@pytest.fixture
def run(db):
    return RunFactory()


def metric(**values):
    return EventLine(type="metric", node="training", attempt=1, agent="TrainingAgent", level="METRIC", message="m", **values)


def test_a_metric_has_the_contracts_keys_in_order(run):
    append(run.id, [metric(timestamp=WHEN, step=420, epoch=2.0, loss=1.73, data={"learning_rate": 0.0001})])

    (event,) = read(run.id)

    assert list(event.json.items()) == [
        ("seq", 1),
        ("type", "metric"),
        ("run_id", str(run.id)),
        ("node", "training"),
        ("attempt", 1),
        ("timestamp", "2025-12-13T01:30:00.999Z"),
        ("agent", "TrainingAgent"),
        ("level", "METRIC"),
        ("message", "m"),
        ("step", 420),
        ("epoch", 2),
        ("loss", 1.73),
        ("data", {"learning_rate": 0.0001}),
    ]


def test_a_line_of_the_run_has_null_node_and_no_metric_keys(run):
    append(run.id, [EventLine(type="status", message="run running", data={"status": "running"})])

    (event,) = read(run.id)

    assert event.json["node"] is None
    assert event.json["agent"] is None
    assert not {"step", "epoch", "loss"} & set(event.json)


@pytest.mark.parametrize("loss", [float("nan"), "nan", float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_is_shown_as_text(run, loss):
    append(run.id, [metric(step=1, loss=loss, data={"grad_norm": float("inf")})])

    (event,) = read(run.id)

    assert event.json["loss"] == str(loss)
    assert event.json["data"] == {"grad_norm": "inf"}


@pytest.mark.parametrize(
    "data",
    [
        {"b": 1, "aaa": {"z": [1, {"y": 2.0, "x": None}], "k": True}},
        {"tiny": 1e-300, "small": 1e-7, "big": 1e16, "bigger": 1.5e300, "zero": -0.0, "third": 1 / 3, "whole": 5.0},
        {"nul": "a\x00b", "lone surrogate": "\ud800", "emoji": "🧪", "tuple": (1, 2), 3: "number as key"},
    ],
)
def test_the_stored_line_reads_as_it_was_sent(run, data):
    line = cleaned(EventLine(type="log", message="a\x00b \ud800 ✓", data=data))

    append(run.id, [line])

    (event,) = read(run.id)
    assert event.text == stored(run.id, 1, line).text


def test_a_long_message_says_how_much_is_missing(run):
    append(run.id, [EventLine(type="log", message="x" * (MAX_MESSAGE_CHARACTERS + 7))])

    (event,) = read(run.id)

    assert event.json["message"].endswith("x… [7 more characters]")


@pytest.mark.parametrize(
    ("node", "status", "ends"),
    [("", "succeeded", True), ("", "failed", True), ("", "running", False), ("training", "succeeded", False)],
)
def test_only_the_runs_own_last_status_ends_it(run, node, status, ends):
    append(run.id, [EventLine(type="status", node=node, message="m", data={"status": status})])

    (event,) = read(run.id)

    assert event.ends_run is ends
