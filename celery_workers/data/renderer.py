"""Hand conversations to the process that runs the chat template, and survive what the template does there."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from celery_workers.contract.errors import BugError, UserInputError
from celery_workers.data.chat_rendering import Conversation, Rendered, RowRefused

_ROOT = Path(__file__).parents[2]
_CPU_SECONDS = 5.0
"""Processor time for one conversation; real templates take less than a thousandth of it."""

_MEMORY_BYTES = 1 << 30
_MAX_KILLS = 2
"""How often in a row of conversations the template may run out of time before the rest is not tried."""


class ChatRenderer:
    """Render conversations with one chat template in a process of its own.

    ``field`` is the config field that the template came from, for errors.
    """

    def __init__(
        self, template: str, *, variables: Mapping[str, object], tools_template: str | None = None, field: str = "template"
    ) -> None:
        self._setting = {
            "template": template,
            "tools_template": tools_template or template,
            "variables": dict(variables),
            "cpu_seconds": _CPU_SECONDS,
            "memory_bytes": _MEMORY_BYTES,
        }
        self._field = field
        self._process = self._start()

    def render(self, conversations: Sequence[Conversation]) -> list[Rendered | RowRefused]:
        """Return the text of each conversation, or why it is refused: one that takes too long is, by name."""
        results = self._render(conversations)
        if len(results) == len(conversations):
            return results
        self._restart()
        kills = 0
        while len(results) < len(conversations) and kills < _MAX_KILLS:
            # What had been rendered before the process ended is lost, so which conversation it was shows one by one only.
            position = len(results)
            results += self._render(conversations[position : position + 1])
            if len(results) == position:
                results.append(self._restart())
                kills += 1
        missing = len(conversations) - len(results)
        message = f"not tried: the chat template ran out of bounds in {kills} rows before"
        return [*results, *(RowRefused("template_too_slow", message) for _ in range(missing))]

    def _render(self, conversations: Sequence[Conversation]) -> list[Rendered | RowRefused]:
        """Return the results; only some, the first ones, where the process ended before it had all."""
        sent, received = _pipes(self._process)
        # The process reads the whole line before it answers, so neither side waits for the other.
        sent.write(json.dumps([vars(item) for item in conversations], separators=(",", ":")) + "\n")
        sent.flush()
        results: list[Rendered | RowRefused] = []
        for _ in conversations:
            line = received.readline()
            if not line.endswith("\n"):
                break
            results.append(_result(json.loads(line)))
        return results

    def _restart(self) -> RowRefused:
        """Start anew when the process has ended, and return why it has."""
        refusal = _refusal_of_the_dead(self._process)
        self._process = self._start()
        return refusal

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery_workers.data.render_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="ascii",
            cwd=_ROOT,
            env={"PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        weakref.finalize(self, _stop, process)
        sent, received = _pipes(process)
        sent.write(json.dumps(self._setting) + "\n")
        sent.flush()
        line = received.readline()
        error = json.loads(line).get("error") if line else str(_refusal_of_the_dead(process))
        if error:
            raise UserInputError(f"the chat template cannot be used: {error}", code="template_error", field=self._field)
        return process


def _result(answer: list[object] | dict[str, str]) -> Rendered | RowRefused:
    if isinstance(answer, dict):
        return RowRefused(answer["code"], answer["message"])
    text, answers, others = answer
    return Rendered(str(text), _spans(answers), _spans(others))


def _spans(pairs: object) -> list[tuple[int, int]]:
    return [(start, end) for start, end in pairs] if isinstance(pairs, list) else []


def _refusal_of_the_dead(process: subprocess.Popen[str]) -> RowRefused:
    """Return why the process ended within a conversation.

    Raises: BugError: no limit ended it.
    """
    code = process.wait()
    if code == -signal.SIGPROF:
        return RowRefused("template_too_slow", f"the chat template took more than {_CPU_SECONDS:g} s, so it may never end")
    if code in (-signal.SIGKILL, -signal.SIGSEGV, -signal.SIGABRT):
        return RowRefused("template_too_large", "the chat template asks for too much memory or recursion")
    raise BugError(f"the process that renders chat templates ended with code {code}")


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    if process.stdin is None or process.stdout is None:
        raise BugError("the process that renders chat templates has no pipes")
    return process.stdin, process.stdout


def _stop(process: subprocess.Popen[str]) -> None:
    """End a process: it ends at the end of its input, unless a template holds it, for its limit at most."""
    sent, received = _pipes(process)
    with contextlib.suppress(BrokenPipeError):  # it has ended with its input unread
        sent.close()
    received.close()
    process.wait()
