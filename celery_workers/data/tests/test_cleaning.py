from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.cleaning import Cleaner, choose_steps, clean_text, collapse_white_space, strip_html
from celery_workers.data.personal_data import PersonalData


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>Hello <b>big</b> world</p><script>x=1</script>a<br>b &amp; c", "Hello big world\na\nb & c"),
        ("<ul><li>one<li>two</ul>", "one\ntwo\n\n"),
        ("if a < b and c > d: return vector<int>()", "if a < b and c > d: return vector<int>()"),
        ("AT&amp;T", "AT&amp;T"),
    ],
)  # fmt: skip
def test_tags_go_and_what_is_no_html_stays(text: str, expected: str) -> None:
    assert strip_html(text) == expected


@given(text=st.text(st.sampled_from("ab \t\n\u00a0"), max_size=60))
def test_collapsing_white_space_keeps_the_words_and_is_idempotent(text: str) -> None:
    collapsed = collapse_white_space(text)

    assert collapsed.split() == text.split()
    assert collapse_white_space(collapsed) == collapsed
    assert "  " not in collapsed
    assert "\n\n\n" not in collapsed


def test_personal_data_is_masked_wherever_a_message_says_it_and_not_repeated() -> None:
    cleaner = Cleaner({}, masked=[PersonalData.EMAIL])
    call = '[{"function": {"name": "send", "arguments": "{\\"to\\": \\"ann@example.com\\"}"}}]'
    messages = [
        {"role": "user", "content": "I am ann@example.com"},
        {"role": "assistant", "content": None, "reasoning_content": "it is ann@example.com", "tool_calls": call},
    ]

    cleaned = cleaner.clean(CanonicalRow(7, {"messages": messages}))

    assert "ann@" not in str(cleaned.values)
    assert cleaner.masked == {"email": 3}
    assert cleaner.rows_changed == {"personal data masked": 1, "any": 1}
    assert cleaner.samples == {"personal data masked": [{"row_number": 7, "before": "", "after": "I am [EMAIL]"}]}


def test_steps_keep_their_order() -> None:
    assert list(choose_steps(repair=True, html=True, white_space=True)) == [
        "mojibake repaired", "control characters removed", "Unicode composed (NFC)", "HTML removed", "white space collapsed",
        "white space trimmed",
    ]  # fmt: skip
    assert choose_steps(repair=False, html=False, white_space=False) == {}
