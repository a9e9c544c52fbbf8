"""Which answers count as equal."""

from __future__ import annotations

import pytest

from celery_workers.evaluation.answers import MatchMode, is_match


@pytest.mark.parametrize(
    ("mode", "generated", "reference", "expected"),
    [
        (MatchMode.NONE, " yes\n", "yes", True),
        (MatchMode.NONE, "a  b", "a b", False),
        (MatchMode.NONE, "Yes", "yes", False),
        (MatchMode.WHITESPACE, "a \n b ", " a b", True),
        (MatchMode.WHITESPACE, "ab", "a b", False),
        (MatchMode.JSON, '{"b": [1, 2.0], "a": null}', '{"a":null,"b":[1.0,2]}', True),
        (MatchMode.JSON, '{"a": 1}', '{"a": true}', False),
        (MatchMode.JSON, "[1, 2]", "[2, 1]", False),
        (MatchMode.JSON, '{"a": 1}', '{"a": 1, "b": 2}', False),
        (MatchMode.JSON, "not json", "not json", False),
        (MatchMode.JSON, '{"a": 1} and more', '{"a": 1}', False),
        (MatchMode.JSON, "[" * 100_000, "[]", False),
    ],
)
def test_is_match(mode: MatchMode, generated: str, reference: str, expected: bool) -> None:
    assert is_match(generated, reference, mode) is expected
