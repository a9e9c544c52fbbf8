from __future__ import annotations

import pytest

from pipelines.engine.cache import differing_parts, seed_of
from pipelines.engine.claim import claim
from pipelines.engine.tests.driving import SPECS, latest, started, statuses, story, succeed, succeed_all
from pipelines.models import Status
from pipelines.tests.agents import chain

pytestmark = pytest.mark.django_db(transaction=True)


def notes(run) -> dict[str, str]:
    return {name: latest(run, name).cache_note for name in statuses(run)}


def test_an_unchanged_run_is_linked_at_once_and_says_from_where(user) -> None:
    first = started(user, chain(), client_run_id="first")
    succeed_all()
    second = started(user, chain())
    assert second.status == Status.SUCCEEDED
    assert set(statuses(second).values()) == {"succeeded"}
    assert all(latest(second, name).cached for name in statuses(second))
    assert notes(second)["train"] == "unchanged since train of run first"
    assert ("train", "cache hit: unchanged since train of run first") in story(second, "log")
    given = [set(latest(run, "train").outputs.values_list("artifact", flat=True)) for run in (first, second)]
    assert given[0] == given[1]
    assert story(second)[-1] == ("", "succeeded")


def test_a_changed_setting_reruns_only_what_depends_on_it_and_says_why(user) -> None:
    run = started(user, chain())
    assert set(notes(run).values()) == {"never ran before", ""}
    succeed_all()
    changed = started(user, chain(train={"learning_rate": 0.0005}))
    assert statuses(changed) == {"source": "succeeded", "check": "succeeded", "split": "succeeded", "train": "queued"}
    assert notes(changed)["train"] == "config.learning_rate: 0.001 -> 0.0005"
    assert ("train", "cache miss: config.learning_rate: 0.001 -> 0.0005") in story(changed, "log")


def test_changed_inputs_are_named(user) -> None:
    started(user, chain())
    succeed_all()
    changed = started(user, chain(source={"text": "other"}))
    succeed_all("cpu")
    assert notes(changed)["source"] == 'config.text: "hello" -> "other"'
    assert notes(changed)["check"] == "input dataset changed"


def test_equal_content_made_another_way_is_a_hit_for_what_follows(user) -> None:
    for options in ({}, {"fail_attempts": 5}):
        run = started(user, chain(check=options))
        while (node_run := claim("cpu", worker="w")) is not None:
            succeed(node_run, content="the same")
    assert notes(run)["check"] == "config.fail_attempts: 100 -> 5"
    assert latest(run, "split").cached


def test_ignoring_the_cache_runs_everything(user) -> None:
    started(user, chain())
    succeed_all()
    again = started(user, chain(), ignore_cache=True)
    assert succeed_all() == ["source", "check", "split", "train"]
    assert set(notes(again).values()) == {"cache ignored on request"}


def test_one_owner_never_gets_another_owners_outputs(user, other_user) -> None:
    started(user, chain())
    succeed_all()
    other = started(other_user, chain())
    assert statuses(other)["source"] == "queued"
    assert notes(other)["source"] == "never ran before"


def test_a_failed_node_is_no_hit(user) -> None:
    started(user, chain())
    succeed(claim("cpu", worker="w"))
    second = started(user, chain())
    assert statuses(second)["source"] == "succeeded"
    assert statuses(second)["check"] == "queued"


def test_a_seed_depends_on_the_agent_alone_unless_the_config_has_one() -> None:
    train = SPECS["TrainAgent"]
    assert seed_of(train, {"learning_rate": 0.1}) == seed_of(train, {"learning_rate": 0.2})
    assert seed_of(train, {"seed": 7}) == 7
    assert 0 <= seed_of(train, {}) < 2**32


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"version": 1}, {"version": 2}, ["agent version: 1 -> 2"]),
        ({"config": {"a": {"b": 1}}}, {"config": {"a": {"b": 2}}}, ["config.a.b: 1 -> 2"]),
        ({"config": {}}, {"config": {"x": [1]}}, ["config.x: not set -> [1]"]),
        ({"config": {"f": {"digest": "1"}}}, {"config": {"f": {"digest": "2"}}}, ["config.f: the content it names changed"]),
        ({"inputs": {"a": ["1"]}}, {"inputs": {"b": ["1"]}}, ["input a removed", "input b added"]),
        ({"base_models": ["1"]}, {"base_models": ["2"]}, ["base model of the inputs changed"]),
        ({"seed": 1}, {"seed": 2}, ["seed: 1 -> 2"]),
        ({"seed": 1}, {"seed": 1}, []),
    ],
)
def test_differences_are_told_in_words(old: dict[str, object], new: dict[str, object], expected: list[str]) -> None:
    assert list(differing_parts(old, new)) == expected
