"""What differs between the methods of training: which weights are loaded how, and which of them are trained.

``lora`` lays float32 adapters over a frozen base.
"""

from __future__ import annotations

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from celery_workers.modeling.loading import load_adapter, load_base
from celery_workers.modeling.precision import Precision, torch_dtype
from celery_workers.training.config import TrainingConfig
from celery_workers.training.lora import add_lora
from celery_workers.training.sources import Sources

TrainedModel = PreTrainedModel | PeftModel


def load_training_base(sources: Sources, *, device: torch.device, precision: Precision) -> PreTrainedModel:
    """Return the base model as the method needs it, in evaluation mode; nothing of it is trained yet."""
    return load_base(sources.base_folder, dtype=torch_dtype(precision), device=device)


def prepare_model(base: PreTrainedModel, config: TrainingConfig, sources: Sources) -> TrainedModel:
    """Return the model to train, with exactly those parameters asking for gradients that the method trains.

    Draws the first weights of new adapters from torch's global generator.

    Raises: UserInputError: the settings do not fit the base, or the adapter to train on does not.
    """
    if sources.adapter_folder:
        return load_adapter(base, sources.adapter_folder, is_trainable=True)
    return add_lora(base, config)
