from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pipelines.engine.jsonb import storable


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
        max_leaves=10,
    )
)
def test_anything_becomes_json_that_postgresql_takes(value: object) -> None:
    text = json.dumps(storable(value), allow_nan=False, ensure_ascii=False)
    assert "\x00" not in text
    assert "\\u0000" not in text
    text.encode()


def test_plain_values_stay_as_they_are() -> None:
    assert storable({"a": [1, 2.5, "ü", None, True]}) == {"a": [1, 2.5, "ü", None, True]}
