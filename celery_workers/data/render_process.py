"""The process in which chat templates run: a template is code from somewhere, so it gets little time, memory and nothing else.

    python -m celery_workers.data.render_process

Lines of JSON in, lines of JSON out. First in: the templates and limits; out: ``{}`` or what is wrong with them. Then each
line in is a list of conversations, and a line goes out for each; they are sent when all are there. A conversation may take
``cpu_seconds`` of processor time: then the kernel ends the process (SIGPROF), whatever loop it is in, which counting
iterations could not do (``9**9**9`` is no loop). Memory is bounded the same way. It ends at the end of its input.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from celery_workers.data.chat_rendering import Conversation, RowRefused, render_conversation
from celery_workers.data.chat_sandbox import compile_chat_template

if TYPE_CHECKING:
    from jinja2 import Template

    from celery_workers.data.chat_rendering import Message


class ConversationRenderer:
    """Answer conversations; ``setting`` has ``template``, ``tools_template``, ``variables`` and ``cpu_seconds``."""

    def __init__(self, setting: Mapping[str, Any]) -> None:
        self._seconds = float(setting["cpu_seconds"])
        self._variables: dict[str, object] = setting["variables"]
        with self._limited():
            self._plain = compile_chat_template(setting["template"])
            same = setting["tools_template"] == setting["template"]
            self._with_tools = self._plain if same else compile_chat_template(setting["tools_template"])

    def answer(self, item: Mapping[str, Any]) -> list[object] | dict[str, str]:
        """Return ``[text, answers, others]`` of a conversation, or why it is refused."""
        conversation = Conversation(item["messages"], item["trained"], item["tools"])
        template = self._with_tools if conversation.tools else self._plain

        def apply(messages: Sequence[Message], is_prompt: bool) -> str:
            return self._render(template, messages, conversation.tools, is_prompt=is_prompt)

        try:
            with self._limited():
                rendered = render_conversation(apply, conversation, end_of_text=str(self._variables.get("eos_token", "")))
        except RowRefused as refusal:
            return {"code": refusal.code, "message": str(refusal)}
        except MemoryError:
            return {"code": "template_too_large", "message": "the chat template asks for too much memory"}
        except Exception as error:  # noqa: BLE001 (a template may raise anything; it is the row's refusal)
            return {"code": "template_error", "message": f"the chat template refuses the conversation: {_said(error)}"}
        return [rendered.text, rendered.answers, rendered.others]

    def _render(self, template: Template, messages: Sequence[Message], tools: list[object], *, is_prompt: bool) -> str:
        return template.render(
            messages=messages, tools=tools or None, documents=None, add_generation_prompt=is_prompt, **self._variables
        )  # fmt: skip

    @contextmanager
    def _limited(self) -> Iterator[None]:
        signal.setitimer(signal.ITIMER_PROF, self._seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


def main() -> None:
    """Serve until the input ends."""
    setting = json.loads(sys.stdin.readline())
    _limit_memory(int(setting["memory_bytes"]))
    try:
        renderer = ConversationRenderer(setting)
    except (TemplateError, RecursionError, MemoryError, SyntaxError) as error:
        _say([{"error": _said(error)}])
        return
    _say([{}])
    for line in sys.stdin:
        _say(renderer.answer(item) for item in json.loads(line))


def _limit_memory(size_bytes: int) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = size_bytes if hard == resource.RLIM_INFINITY else min(size_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _said(error: BaseException) -> str:
    line = getattr(error, "lineno", None)
    return f"{str(error)[:500] or type(error).__name__}{f' (line {line} of the template)' if line else ''}"


def _say(answers: Iterable[object]) -> None:
    for answer in answers:
        sys.stdout.write(json.dumps(answer, separators=(",", ":")) + "\n")
    sys.stdout.flush()  # once: each time wakes the other process


if __name__ == "__main__":
    main()
