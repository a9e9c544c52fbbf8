from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from celery_workers.modeling.loading import load_base
from celery_workers.training.acceleration import accelerate
from celery_workers.training.attention import join_rows
from celery_workers.training.config import TrainingConfig
from celery_workers.training.lora import add_lora


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("can_join", [True, False])
def test_all_groups_of_the_tiny_model_are_fused_without_drawing(
    can_join: bool, precision: str, tiny_model_folder: Path
) -> None:
    base = load_base(tiny_model_folder, dtype=getattr(torch, precision))
    assert not can_join or join_rows(base)
    model = add_lora(base, TrainingConfig(target_modules="all-linear", lora_r=4)).train()
    state = torch.get_rng_state()
    assert accelerate(model, can_join=can_join, precision=precision) == 8
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    norms = [module for module in model.modules() if type(module).__name__ == "LlamaRMSNorm"]
    assert all("forward" in vars(norm) for norm in norms)


def test_a_model_without_adapters_keeps_its_layers(tiny_model_folder: Path) -> None:
    model = load_base(tiny_model_folder, dtype=torch.float32)
    assert accelerate(model, can_join=False, precision="float32") == 0
    assert not any("forward" in vars(module) for module in model.modules() if isinstance(module, nn.Linear))
