from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from celery_workers.data.dedup import comparison_text, content_key

CONTENTS = st.lists(st.fixed_dictionaries({"prompt": st.sampled_from("abc"), "completion": st.sampled_from("xy")}))


@given(contents=CONTENTS)
def test_deduplication_is_idempotent(contents: list[dict[str, str]]) -> None:
    once = list({content_key(values): values for values in contents}.values())
    twice = list({content_key(values): values for values in once}.values())

    assert once == twice


def test_fields_do_not_run_into_each_other() -> None:
    assert content_key({"prompt": "ab", "completion": "c"}) != content_key({"prompt": "a", "completion": "bc"})
    assert content_key({"prompt": "a", "completion": "b"}) != content_key({"prompt": "b", "completion": "a"})


def test_an_absent_field_equals_an_empty_one() -> None:
    assert content_key({"instruction": "a", "output": "b", "input": ""}) == content_key({"output": "b", "instruction": "a"})


def test_rows_are_compared_without_what_all_of_them_share() -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]

    assert comparison_text({"messages": messages, "tools": "[]"}) == "a\nb"
    assert comparison_text({"instruction": "a", "output": "b", "input": None, "system": "Be kind."}) == "a\nb"
