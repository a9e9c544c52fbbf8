"""What a hostile or broken chat template does, and that it is refused in bounded time and memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from celery_workers.contract import UserInputError
from celery_workers.data import renderer as renderer_module
from celery_workers.data.chat_rendering import Conversation, Rendered, RowRefused
from celery_workers.data.renderer import ChatRenderer

GOOD = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
PAIR = Conversation([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], [1])
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{{ '' }}{% endfor %}{% endfor %}"


@pytest.fixture(autouse=True)
def _little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer_module, "_CPU_SECONDS", 0.5)


def refusal(template: str) -> RowRefused:
    (result,) = ChatRenderer(template, variables={}).render([PAIR])
    assert isinstance(result, RowRefused)
    return result


def test_a_conversation_is_rendered_with_its_answer() -> None:
    (result,) = ChatRenderer(GOOD, variables={}).render([PAIR])

    assert result == Rendered("user: a\nassistant: b\n", [(19, 21)])


@pytest.mark.parametrize(
    "template",
    [
        ENDLESS,
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% set n = messages | length * 9 %}{{ n ** (n ** (n ** n)) }}",
        "{% for a in 'x' * 9000 recursive %}{{ loop('x' * 9000) if loop.depth < 9 }}{% endfor %}",
    ],
)
def test_a_template_that_does_not_end_is_stopped(template: str) -> None:
    began = time.process_time()

    assert refusal(GOOD + template).code == "template_too_slow"
    assert time.process_time() - began < 1, "the time is the other process's"


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * (10 ** 10) }}",
        "{{ 'a'.ljust(10 ** 10) }}",
        "{{ '%9999999999d' % 1 }}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for _ in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{{ 'a' * 20000000 }}",
    ],
)
def test_a_template_that_asks_for_too_much_memory_is_refused(template: str) -> None:
    # Which bound is met first depends on the machine: making so much takes time, too.
    assert refusal(GOOD + template).code in ("template_too_large", "template_too_slow", "template_error")


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ ('%s'|attr('__class__')).mro() }}",
        "{{ '{0.__class__.__mro__}'.format(messages) }}",
        "{% set ns = namespace() %}{% set ns.__init__ = 1 %}",
        "{{ dict.__class__.__mro__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ messages | map(attribute='__class__') | map('string') | first | length / 0 }}",
    ],
)
def test_a_template_that_reaches_for_attributes_or_files_is_refused(template: str) -> None:
    assert refusal(GOOD + template).code == "template_error"


@pytest.mark.parametrize("template", ["{% for m in messages %}", "{{ nothing", "{% do x %}"])
def test_a_template_that_is_none_is_refused_at_once(template: str) -> None:
    with pytest.raises(UserInputError, match="the chat template cannot be used") as caught:
        ChatRenderer(template, variables={}, field="custom_template")

    assert (caught.value.code, caught.value.field) == ("template_error", "custom_template")


def test_a_constant_that_takes_ever_to_compile_is_stopped() -> None:
    with pytest.raises(UserInputError, match="took more than"):
        ChatRenderer("{{ 9 ** (9 ** (9 ** 9)) }}", variables={})


def test_the_rows_beside_a_slow_one_are_rendered() -> None:
    template = GOOD + "{% if messages[0].content == 'slow' %}" + ENDLESS + "{% endif %}"
    slow = Conversation([{"role": "user", "content": "slow"}, PAIR.messages[1]], [1])

    results = ChatRenderer(template, variables={}).render([PAIR, slow, PAIR])

    assert [type(item) for item in results] == [Rendered, RowRefused, Rendered]
    assert results[0] == results[2]


def test_a_template_that_is_always_slow_is_tried_twice_only() -> None:
    results = ChatRenderer(GOOD + ENDLESS, variables={}).render([PAIR] * 5)

    assert {item.code for item in results if isinstance(item, RowRefused)} == {"template_too_slow"}
    assert len(results) == 5
    assert "in 2 rows before" in str(results[4])


def test_any_text_survives_the_way_there_and_back() -> None:
    content = "ünï \ud800 \u2028\n\x00 \U0001f600"
    conversation = Conversation([{"role": "user", "content": content}, PAIR.messages[1]], [1])

    (result,) = ChatRenderer(GOOD, variables={}).render([conversation])

    assert isinstance(result, Rendered)
    assert content in result.text


def test_the_process_has_no_environment_and_ends_with_its_renderer() -> None:
    made = ChatRenderer(GOOD, variables={})
    process = made._process

    assert b"SECRET" not in Path(f"/proc/{process.pid}/environ").read_bytes()
    del made

    assert process.returncode == 0
