from __future__ import annotations

import pytest
import torch

from celery_workers.training.dropout import draw_dropped

CPU = torch.device("cpu")


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_share_of_dropped_elements_is_p(p: float) -> None:
    torch.manual_seed(0)
    dropped = draw_dropped((1000, 501), p, CPU)
    deviation = (p * (1 - p) / dropped.numel()) ** 0.5
    assert dropped.dtype == torch.bool
    assert abs(dropped.float().mean().item() - p) < 4 * deviation
    assert dropped.float().mean(0).sub(p).abs().max() < 6 * (p * (1 - p) / 1000) ** 0.5
    assert dropped.float().mean(1).sub(p).abs().max() < 6 * (p * (1 - p) / 501) ** 0.5


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    dropped = draw_dropped((400, 512), 0.2, CPU).float()
    for one, other in ((dropped[:, 1:], dropped[:, :-1]), (dropped[1:], dropped[:-1]), (dropped[:, 4:], dropped[:, :-4])):
        assert abs((one * other).mean().item() - 0.04) < 4 * (0.04 * 0.96 / one.numel()) ** 0.5


def test_torch_generator_alone_decides() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = (draw_dropped((20, 30), 0.5, CPU) for _ in range(2))
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(draw_dropped((20, 30), 0.5, CPU), first)
    assert torch.equal(draw_dropped((20, 30), 0.5, CPU), second)
