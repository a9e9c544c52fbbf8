from __future__ import annotations

import pytest

from frontend.templatetags import ui


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0.0 s"),
        (3.44, "3.4 s"),
        (42, "42 s"),
        (125, "2 min 05 s"),
        (11_220, "3 h 07 min"),
        (180_000, "2 d 2 h"),
    ],
)
def test_duration_has_units_and_two_parts_at_most(seconds, text):
    assert ui.duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (512, "512 B"),
        (999, "999 B"),
        (1_490, "1.49 kB"),
        (98_000_000, "98.0 MB"),
        (1_240_000_000, "1.24 GB"),
    ],
)
def test_size_has_three_digits(size_bytes, text):
    assert ui.size(size_bytes) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (True, "yes"), (1_234_567, "1,234,567"), (0.0, "0.00"), (0.2739, "0.274"), (1.73, "1.73"), (521.4, "521"),
        (12_345.6, "12,346"), (0.00045, "0.00045"), (1.9e-05, "1.90e-05"), (float("nan"), "nan"), (float("-inf"), "-inf"),
    ],
)  # fmt: skip
def test_number_has_sensible_digits(value, text):
    assert ui.number(value) == text


def test_a_measured_value_carries_the_unit_of_its_name():
    assert ui.measured(3_301_000_000, "peak_bytes") == "3.30 GB"
    assert ui.measured(521.0, "tokens_per_second") == "521 tokens/s"
    assert ui.measured(1.4, "took_seconds") == "1.40 s"
    assert ui.measured("nan", "loss") == "nan"


def test_a_label_leaves_the_unit_to_the_value():
    assert [ui.label(name) for name in ("peak_bytes", "tokens_per_second", "took_seconds", "grad_norm")] == [
        "peak", "speed", "took", "grad norm",
    ]  # fmt: skip


def test_a_status_is_colour_icon_and_word():
    mark = ui.status_mark("failed")
    assert 'data-status="failed"' in mark
    assert "#failed" in mark
    assert mark.endswith("failed</span>")
