"""The sandbox must render what transformers renders."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import TemplateError

from celery_workers.data.chat_sandbox import compile_chat_template

SHAPES = sorted((Path(__file__).parent / "chat_templates").glob("*.jinja"))
MESSAGES = [
    {"role": "user", "content": "  hi <there> & 'you'\n"},
    {"role": "assistant", "content": "\n\nno, ünï"},
    {"role": "user", "content": "more"},
]


@pytest.mark.parametrize("path", SHAPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("has_prompt", [True, False])
def test_it_renders_what_transformers_renders(make_bpe_tokenizer, path: Path, has_prompt: bool) -> None:
    text = path.read_text(encoding="utf-8")
    tokenizer = make_bpe_tokenizer(text)

    rendered = compile_chat_template(text).render(
        messages=MESSAGES, tools=None, documents=None, add_generation_prompt=has_prompt, **tokenizer.special_tokens_map
    )  # fmt: skip

    assert rendered == tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=has_prompt)


@pytest.mark.parametrize(
    "text",
    [
        "{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
        "{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x is defined }}",
        "{{ {'b': '<', 'a': 'é'} | tojson(indent=2, sort_keys=true) }}",
        "{% set ns = namespace({'a': 1}, b=2) %}{% set ns.a = 3 %}{{ ns.a + ns.b }}{{ dict(c=4).c }}",
        "{{ strftime_now('%Y') }}",
        "  {% if true %}\n  a\n  {% endif %}\nb\n\n",
    ],
)
def test_it_knows_what_chat_templates_use(make_bpe_tokenizer, text: str) -> None:
    tokenizer = make_bpe_tokenizer(text)

    assert compile_chat_template(text).render(messages=MESSAGES) == tokenizer.apply_chat_template(MESSAGES, tokenize=False)


def test_a_private_attribute_is_an_error_even_when_nothing_is_done_with_it() -> None:
    with pytest.raises(TemplateError, match="'__class__' of a list is unsafe"):
        compile_chat_template("{% set x = messages.__class__ %}").render(messages=MESSAGES)
