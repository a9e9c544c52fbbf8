from __future__ import annotations

import pytest

from celery_workers.modeling import precision


@pytest.mark.parametrize(("bfloat16_seconds", "expected"), [(1.0, "bfloat16"), (3.0, "float32")])
def test_the_faster_type_is_chosen_and_measured_once(
    bfloat16_seconds: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    def measure(name: precision.Precision, device: str) -> float:
        measured.append(name)
        return bfloat16_seconds if name == "bfloat16" else 2.0

    monkeypatch.setattr(precision, "matmul_seconds", measure)
    precision.fastest_precision.cache_clear()
    assert [precision.fastest_precision("cpu") for _ in range(3)] == [expected] * 3
    assert sorted(measured) == ["bfloat16", "float32"]
    precision.fastest_precision.cache_clear()


def test_a_real_measurement_is_a_time() -> None:
    assert 0 < precision.matmul_seconds("float32", "cpu") < 10
