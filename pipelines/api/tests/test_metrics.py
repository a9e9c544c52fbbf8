"""Curves keep what is extreme."""

from __future__ import annotations

import math

import pytest

from pipelines.events import EventLine, append
from pipelines.tests.factories import RunFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(user):
    return RunFactory(owner=user)


def metric(step: int | None, loss: float | None = None, *, node: str = "training", attempt: int = 1, **data) -> EventLine:
    return EventLine(type="metric", node=node, attempt=attempt, level="METRIC", message="m", step=step, loss=loss, data=data)


def series(api_client, run, query: str = "") -> dict[tuple[str, str], list[dict[str, object]]]:
    answer = api_client.get(f"/api/v1/jobs/{run.id}/metrics?{query}")
    assert answer.status_code == 200, answer.content
    return {(curve["node"], curve["name"]): curve["points"] for curve in answer.json()["series"]}


def test_every_number_of_every_node_is_a_curve(api_client, run):
    append(run.id, [metric(1, 2.5, learning_rate=1e-4, note="text"), metric(7, accuracy=0.5, node="evaluation")])

    curves = series(api_client, run)

    assert curves == {
        ("training", "loss"): [{"step": 1, "min": 2.5, "max": 2.5, "last": 2.5}],
        ("training", "learning_rate"): [{"step": 1, "min": 1e-4, "max": 1e-4, "last": 1e-4}],
        ("evaluation", "accuracy"): [{"step": 7, "min": 0.5, "max": 0.5, "last": 0.5}],
    }


def test_a_spike_among_ten_thousand_steps_survives(api_client, run):
    losses = [1 + 1 / (step + 1) for step in range(10_000)]
    losses[4_321] = 99.0
    append(run.id, [metric(step, loss) for step, loss in enumerate(losses, start=1)])

    points = series(api_client, run, "points=100")["training", "loss"]

    assert len(points) == 100
    assert max(point["max"] for point in points) == 99.0
    assert points[-1] == {"step": 10_000, "min": losses[-1], "max": losses[-100], "last": losses[-1]}
    for number, point in enumerate(points):
        bucket = losses[number * 100 : (number + 1) * 100]
        assert (point["min"], point["max"], point["last"]) == (min(bucket), max(bucket), bucket[-1])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_shown(api_client, run, value):
    append(run.id, [metric(1, 2.0), metric(2, value), metric(3, 1.0, grad_norm=value)])

    curves = series(api_client, run, "points=1")

    (point,) = curves["training", "loss"]
    assert str(value) in (point["min"], point["max"])
    assert point["last"] == 1.0
    assert curves["training", "grad_norm"][0]["last"] == str(value)


def test_a_resumed_attempt_replaces_the_steps_it_repeats(api_client, run):
    append(run.id, [metric(step, 10.0 + step) for step in range(1, 6)])
    append(run.id, [metric(step, 20.0 + step, attempt=2) for step in range(4, 8)])

    points = series(api_client, run)["training", "loss"]

    assert [(point["step"], point["min"], point["max"]) for point in points] == [
        (1, 11, 11), (2, 12, 12), (3, 13, 13), (4, 24, 24), (5, 25, 25), (6, 26, 26), (7, 27, 27),
    ]  # fmt: skip


def test_names_and_nodes_choose(api_client, run):
    append(run.id, [metric(1, 2.0, a=1, b=2), metric(1, 3.0, node="training_2", a=4)])

    assert set(series(api_client, run, "names=a,%20loss")) == {
        ("training", "a"), ("training", "loss"), ("training_2", "a"), ("training_2", "loss"),
    }  # fmt: skip
    assert set(series(api_client, run, "names=a&node=training_2")) == {("training_2", "a")}


def test_metrics_without_a_step_and_other_lines_are_no_points(api_client, run):
    append(run.id, [metric(None, 2.0), EventLine(type="log", message="x", data={"loss": 5})])

    assert series(api_client, run) == {}


@pytest.mark.parametrize("query", ["points=0", "points=5001", "points=many"])
def test_a_bad_number_of_points_is_refused(api_client, run, query):
    assert api_client.get(f"/api/v1/jobs/{run.id}/metrics?{query}").status_code == 400
