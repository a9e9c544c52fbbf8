"""Compile chat templates as transformers does, in a sandbox of their own.

The names that templates may use are those of ``apply_chat_template``; a test holds both against each other. It is apart
from transformers because it runs in a process that must start at once: see ``render_process.py``. ``strftime_now`` gives
today, as it does at inference, so a template that writes the date gives other tokens tomorrow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from jinja2 import Environment, Template, TemplateError, Undefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

_MAX_DECIDED = 1024
"""Templates name few attributes; but they can make up names."""


class _Generation(Extension):
    """``{% generation %}`` marks answers for other trainers; here answers are found by prefix difference."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class _Dict:
    """``dict()`` for templates, without the attributes of the type."""

    def __call__(self, *args: Mapping[str, object], **items: object) -> dict[str, object]:
        return dict(*args, **items)


class _Namespace(Namespace):
    """``namespace()`` without names that begin with an underscore, which reach Python's own."""

    def __init__(*args: object, **attributes: object) -> None:
        namespace, values = args[0], dict(*args[1:], **attributes)
        for name in values:
            _check_name(name)
        Namespace.__init__(namespace, values)

    def __setitem__(self, name: str, value: object) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Refuses what Jinja would pass over: a private attribute is an error, even where nothing is done with it."""

    def __init__(self, *, extensions: Sequence[type[Extension]]) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
        self._decided: dict[tuple[type, str], bool] = {}

    def unsafe_undefined(self, obj: object, attribute: str) -> Undefined:
        if attribute.startswith("_"):
            raise SecurityError(f"access to the attribute {attribute!r} of a {type(obj).__name__} is unsafe")
        return super().unsafe_undefined(obj, attribute)

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:
        """Decide once for each type and name: nothing but an object's type counts, and templates ask all the time."""
        key = (type(obj), attr)
        is_safe = self._decided.get(key)
        if is_safe is None:
            is_safe = super().is_safe_attribute(obj, attr, value)
            if len(self._decided) < _MAX_DECIDED:
                self._decided[key] = is_safe
        return is_safe


def compile_chat_template(text: str) -> Template:
    """Return ``text`` compiled.

    Raises: TemplateError: it is not a template.
    """
    template = _environment().from_string(text)
    template.globals = dict(template.globals)  # Jinja copies them at each rendering, and its chain of mappings slowly
    return template


def _environment() -> Environment:
    environment = _Sandbox(extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals.update(
        raise_exception=_raise_exception, strftime_now=_strftime_now, dict=_Dict(), namespace=_Namespace
    )  # fmt: skip
    return environment


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"access to the attribute {name!r} of a namespace is unsafe")


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)
