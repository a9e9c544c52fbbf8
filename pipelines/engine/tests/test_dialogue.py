"""The protocol's rules and deadlines, with a clock of the test's own."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from celery_workers.contract.messages import (
    Cancel,
    Checkpoint,
    Failure,
    Log,
    Message,
    PortValue,
    Progress,
    Ready,
    Result,
    Shutdown,
)
from pipelines.engine.dialogue import EXIT_SECONDS, START_SECONDS, TERM_SECONDS, Dialogue
from pipelines.engine.supervisor import Orders

LOG = Log(level="INFO", message="", timestamp=0)
RESULT = Result(outputs={})


@pytest.fixture
def dialogue(tmp_path: Path) -> Dialogue:
    return Dialogue(workdir=tmp_path, grace_seconds=20, now=0)


def tell(dialogue: Dialogue, *messages: Message, now: float = 1) -> None:
    for message in messages:
        dialogue.hear(message.model_dump_json().encode(), now=now)


def code(dialogue: Dialogue) -> str | None:
    return dialogue.verdict.code if isinstance(dialogue.verdict, Failure) else None


def test_an_answer_stands_and_leaves_time_to_end(dialogue: Dialogue) -> None:
    tell(dialogue, Ready(pid=1), LOG, RESULT, now=5)
    assert dialogue.verdict == RESULT
    assert dialogue.next_deadline == 5 + EXIT_SECONDS
    assert dialogue.signal_due(now=5 + EXIT_SECONDS) == signal.SIGKILL
    assert dialogue.verdict == RESULT


@pytest.mark.parametrize(
    "messages",
    [
        [LOG],
        [RESULT],
        [Ready(pid=1), Ready(pid=1)],
        [Ready(pid=1), RESULT, LOG],
        [Ready(pid=1), RESULT, RESULT],
        [Ready(pid=1), Checkpoint(path="/etc", step=1)],
        [Ready(pid=1), Result(outputs={"a": [PortValue(kind="file", path="/etc/passwd")]})],
        [Ready(pid=1), Cancel()],
    ],
    ids=["log first", "result first", "ready twice", "log last", "two results", "checkpoint", "output", "not its to say"],
)
def test_a_breach_kills_and_nothing_said_counts(dialogue: Dialogue, messages: list[Message]) -> None:
    tell(dialogue, *messages)
    assert code(dialogue) == "protocol"
    assert dialogue.signal_due(now=1) == signal.SIGKILL
    tell(dialogue, RESULT)
    assert code(dialogue) == "protocol"


def test_a_child_that_never_gets_ready_is_killed(dialogue: Dialogue) -> None:
    assert dialogue.signal_due(now=START_SECONDS - 1) is None
    assert dialogue.signal_due(now=START_SECONDS) == signal.SIGKILL
    assert code(dialogue) == "child_not_started"


def test_a_ready_child_has_all_the_time_it_needs(dialogue: Dialogue) -> None:
    tell(dialogue, Ready(pid=1), Progress(fraction=0.5))
    assert dialogue.next_deadline == float("inf")


def test_orders_are_told_once_and_the_first_sets_the_deadline(dialogue: Dialogue) -> None:
    orders = Orders()
    tell(dialogue, Ready(pid=1))
    orders.shutdown()
    assert dialogue.obey(orders, now=10) == [Shutdown()]
    orders.cancel()
    assert dialogue.obey(orders, now=15) == [Cancel()]
    assert dialogue.obey(orders, now=16) == []
    assert dialogue.next_deadline == 30
    assert dialogue.signal_due(now=30) == signal.SIGTERM
    assert dialogue.signal_due(now=30) is None
    assert dialogue.signal_due(now=30 + TERM_SECONDS) == signal.SIGKILL
    assert code(dialogue) == "canceled"


def test_getting_ready_does_not_lift_an_orders_deadline(dialogue: Dialogue) -> None:
    orders = Orders()
    orders.shutdown()
    dialogue.obey(orders, now=1)
    tell(dialogue, Ready(pid=1), now=2)
    assert dialogue.next_deadline == 21


def test_an_answer_in_time_outweighs_the_kill(dialogue: Dialogue) -> None:
    orders = Orders()
    tell(dialogue, Ready(pid=1))
    orders.cancel()
    dialogue.obey(orders, now=1)
    assert dialogue.signal_due(now=21) == signal.SIGTERM
    stopped = Failure(error_kind=None, code="canceled", message="Canceled.")
    tell(dialogue, stopped, now=21.5)
    assert dialogue.verdict == stopped


def test_a_child_that_closed_its_socket_must_end(dialogue: Dialogue) -> None:
    tell(dialogue, Ready(pid=1))
    dialogue.note_socket_ended(now=3)
    assert dialogue.signal_due(now=3 + EXIT_SECONDS) == signal.SIGKILL
    assert code(dialogue) == "no_result"


def test_an_abandoned_child_is_killed_now(dialogue: Dialogue) -> None:
    orders = Orders()
    orders.abandon()
    assert dialogue.obey(orders, now=1) == []
    assert dialogue.signal_due(now=1) == signal.SIGKILL
    assert code(dialogue) == "abandoned"
