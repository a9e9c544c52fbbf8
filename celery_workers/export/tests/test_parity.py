"""Measures of difference, and what breaks a tolerance."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from celery_workers.export.parity import TOLERANCES, measure_parity


def test_equal_logits_have_no_difference() -> None:
    import torch

    logits = [torch.randn(5, 7), torch.randn(3, 7)]

    parity = measure_parity(logits, [item.clone() for item in logits])

    assert (parity.positions, parity.max_logit_difference, parity.top1_agreement) == (8, 0.0, 1.0)
    assert parity.kl_nats == pytest.approx(0.0, abs=1e-12)
    assert parity.breaches(TOLERANCES["float32"]) == []


def test_kl_of_two_known_distributions() -> None:
    import torch

    live, exported = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log()

    parity = measure_parity([live], [exported])

    assert parity.kl_nats == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1), rel=1e-6)


def test_each_breach_names_rule_limit_and_value() -> None:
    import torch

    live = torch.eye(4) * 10
    parity = measure_parity([live], [live.flip(0)])

    breaches = parity.breaches(TOLERANCES["float32"])

    assert breaches[0] == "max |logit difference| must be <= 0.01, got 10"
    assert breaches[1] == "top-1 agreement must be >= 0.98, got 0"
    assert len(breaches) == 3


def test_nan_breaks_every_tolerance() -> None:
    import torch

    parity = measure_parity([torch.zeros(2, 3)], [torch.full((2, 3), torch.nan)])

    assert len(parity.breaches(TOLERANCES["float32"])) >= 2
    assert parity.breaches(replace(TOLERANCES["bfloat16"], min_top1_agreement=0.0))


def test_other_shapes_are_refused() -> None:
    import torch

    with pytest.raises(ValueError, match="equal shapes"):
        measure_parity([torch.zeros(2, 3)], [torch.zeros(2, 4)])
