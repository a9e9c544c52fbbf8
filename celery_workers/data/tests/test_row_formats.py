from __future__ import annotations

import pytest

from celery_workers.contract import UserInputError
from celery_workers.data.row_formats import RowFormat, detect_row_format, shape_of


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["instruction", "input", "output"], RowFormat.ALPACA),
        (["instruction", "output"], RowFormat.ALPACA),
        (["instruction", "input", "output", "text"], RowFormat.ALPACA),
        (["messages"], RowFormat.CHAT),
        (["messages", "prompt", "completion"], RowFormat.CHAT),
        (["prompt", "completion"], RowFormat.PROMPT_COMPLETION),
        ([" Prompt ", "COMPLETION"], RowFormat.PROMPT_COMPLETION),
        (["id", "text"], RowFormat.TEXT),
    ],
)
def test_columns_tell_the_format(columns: list[str], expected: RowFormat) -> None:
    assert detect_row_format(columns).format is expected


def test_the_reason_names_the_columns_and_the_other_formats() -> None:
    reason = detect_row_format(["Instruction", "output", "text"]).reason

    assert reason == (
        "Found alpaca: columns Instruction (as instruction), output. Its columns would also fit text."
        " Kept, but not trained on: 'text'."
    )


def test_an_exact_name_wins_over_one_in_another_case() -> None:
    assert detect_row_format(["TEXT", "text", "Text"]).sources == {"text": "text"}


def test_a_requested_format_overrides_detection() -> None:
    detected = detect_row_format(["instruction", "output", "text"], requested=RowFormat.TEXT)

    assert (detected.format, detected.sources) == (RowFormat.TEXT, {"text": "text"})


def test_a_mapping_names_source_columns() -> None:
    detected = detect_row_format(["frage", "antwort"], mapping={"prompt": "frage", "completion": "antwort"})

    assert detected.format is RowFormat.PROMPT_COMPLETION
    assert detected.sources == {"prompt": "frage", "completion": "antwort"}


@pytest.mark.parametrize(
    ("columns", "options", "code", "message"),
    [
        (
            ["frage", "antwort"],
            {},
            "no_row_format",
            "'frage', 'antwort': chat needs messages; alpaca needs instruction and",
        ),
        (["prompt"], {"requested": RowFormat.ALPACA}, "no_row_format", "alpaca needs instruction and output"),
        (["a"], {"mapping": {"prompt": "b"}}, "missing_column", "'b', which is not among 'a'"),
        (["a"], {"mapping": {"promt": "a"}}, "unknown_column", "got 'promt'"),
        ([f"c{n}" for n in range(100)], {}, "no_row_format", "and 80 more"),
    ],
)
def test_columns_that_fit_nothing_are_refused(columns: list[str], options: dict, code: str, message: str) -> None:
    with pytest.raises(UserInputError, match=message) as caught:
        detect_row_format(columns, **options)

    assert caught.value.code == code


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UserInputError, match="got 'sharegpt'"):
        shape_of("sharegpt")
