from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.cleaning import Cleaner, clean_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("schÃ¶n", "schön"),
        ("voilÃ\xa0 le travail", "voilà le travail"),
        ("e\u0301", "é"),
        ("e\x07\u0301", "é"),
        ("a\x07b\x00c\ufeff", "abc"),
        ("\n \n  indented\r\nnext\rlast  \n\n", "  indented\nnext\nlast"),
        ("“quotes” ﬁ \uff21\uff22 &amp; <b>\n\n\n\tx  y", "“quotes” ﬁ \uff21\uff22 &amp; <b>\n\n\n\tx  y"),
        ("👩‍👩‍👧 \u200f", "👩‍👩‍👧 \u200f"),
    ],
)
def test_damage_is_repaired_and_meaning_is_kept(text: str, expected: str) -> None:
    assert clean_text(text) == expected


@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200))
def test_plain_text_changes_at_its_end_only(text: str) -> None:
    assert clean_text(text) == text.rstrip()


@given(text=st.text(max_size=100))
def test_the_result_is_composed(text: str) -> None:
    assert unicodedata.is_normalized("NFC", clean_text(text))


def test_rows_are_counted_by_what_changed_in_them() -> None:
    cleaner = Cleaner()
    rows = [
        CanonicalRow(1, {"messages": [{"role": "user", "content": "schÃ¶n "}, {"role": "assistant", "content": "ok "}]}),
        CanonicalRow(2, {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
        CanonicalRow(3, {"messages": [{"role": "user", "content": "c "}, {"role": "assistant", "content": None}]}),
    ]

    cleaned = [cleaner.clean(row) for row in rows]

    assert cleaned[0].values["messages"] == [{"role": "user", "content": "schön"}, {"role": "assistant", "content": "ok"}]
    assert cleaned[1].values == rows[1].values
    assert cleaner.rows_changed == {"mojibake repaired": 1, "white space trimmed": 2, "any": 2}
