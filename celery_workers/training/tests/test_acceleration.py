from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from celery_workers.modeling.loading import load_base
from celery_workers.training.acceleration import accelerate
from celery_workers.training.attention import join_rows
from celery_workers.training.config import TrainingConfig
from celery_workers.training.loop import train
from celery_workers.training.lora import add_lora
from celery_workers.training.sources import Sources
from celery_workers.training.tests.conftest import StoringContext


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


def test_freed_memory_is_returned_after_the_start_and_every_fourth_training_forward(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    returns = []
    monkeypatch.setattr("celery_workers.training.acceleration._return_freed_memory", lambda: returns.append(1))
    model = add_lora(load_base(tiny_model_folder, dtype=torch.float32), TrainingConfig(lora_r=4))
    accelerate(model, can_join=False, precision="float32")
    for is_training in (True, False):
        model.train(is_training)
        for _ in range(9):
            model(torch.tensor([[5, 6]]))
    assert len(returns) == 1 + 2


def test_a_model_without_adapters_keeps_its_layers(tiny_model_folder: Path) -> None:
    model = load_base(tiny_model_folder, dtype=torch.float32)
    assert accelerate(model, can_join=False, precision="float32") == 0
    assert not any("forward" in vars(module) for module in model.modules() if isinstance(module, nn.Linear))


def test_accelerated_training_gives_the_losses_of_a_plain_one(
    sources: Sources, make_context: Callable[..., StoringContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainingConfig(
        epochs=3, batch_size=4, learning_rate=0.01, lora_r=4, lora_dropout=0, target_modules="all-linear", precision="float32"
    )
    accelerated = train(make_context(), config, sources)
    monkeypatch.setattr("celery_workers.training.setup.accelerate", lambda model, **options: 0)
    plain = train(make_context(), config, sources)
    assert accelerated.history.losses == pytest.approx(plain.history.losses, rel=1e-5)
    assert accelerated.history.grad_norms == pytest.approx(plain.history.grad_norms, rel=1e-4)
    assert accelerated.history.eval_losses == pytest.approx(plain.history.eval_losses, rel=1e-5)


@pytest.mark.parametrize(
    "settings", [{"target_modules": "q_proj,v_proj"}, {"use_dora": True}, {"gradient_checkpointing": True}]
)
def test_eight_rows_at_once_train_like_one_row_eight_times(
    settings: dict[str, object], sources: Sources, make_context: Callable[..., StoringContext]
) -> None:
    base = {"epochs": 2, "learning_rate": 0.01, "lora_r": 4, "lora_dropout": 0, "precision": "float32"}
    config = TrainingConfig(**{"target_modules": "all-linear", **base, **settings})
    at_once, one_by_one = (
        train(make_context(), config.model_copy(update={"batch_size": size, "gradient_accumulation": 8 // size}), sources)
        for size in (8, 1)
    )
    assert at_once.history.losses == pytest.approx(one_by_one.history.losses, rel=1e-5)
