"""Lay LoRA adapters over a base model.

Source: Hu et al. 2021, arXiv:2106.09685. The update of a weight W is (alpha / r) B A, with B zero at first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from celery_workers.contract.errors import UserInputError
from celery_workers.training.config import ALL_LINEAR, TrainingConfig


def add_lora(base: PreTrainedModel, config: TrainingConfig) -> PeftModel:
    """Return ``base``, frozen, with new adapters on the target modules; adapters are float32.

    Draws the first weights from torch's global generator.

    Raises: UserInputError: a target module does not exist; the message lists those that do.
    """
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=resolve_targets(base, config.target_modules),
        bias="none",
    )
    return get_peft_model(base, lora, autocast_adapter_dtype=True)


def resolve_targets(base: PreTrainedModel, names: Sequence[str]) -> list[str]:
    """Return the sorted module names that ``names`` stands for; all-linear is every linear layer but the head.

    Raises: UserInputError: a name fits no linear layer.
    """
    existing = linear_names(base)
    if list(names) == [ALL_LINEAR]:
        return existing
    unknown = sorted(set(names) - set(existing))
    if unknown:
        raise UserInputError(
            f"target_modules must be among {', '.join(existing)} or {ALL_LINEAR}, got {', '.join(unknown)}",
            code="unknown_target_modules",
            field="target_modules",
            evidence={"existing": existing},
        )
    return sorted(set(names))


def linear_names(base: PreTrainedModel) -> list[str]:
    """Return the last parts of the names of all linear layers but the head, sorted, each once."""
    head = base.get_output_embeddings()
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in base.named_modules()
            if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
        }
    )


def trainable_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that are trained, by name, in the model's order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
