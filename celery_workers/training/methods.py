"""What differs between the methods of training: how the base is loaded, and which weights are trained.

``lora`` lays float32 adapters over a frozen base, ``qlora`` over one in 4 bits, ``full`` trains the base's own weights, all or
some, in float32. Whatever is trained is float32; the computation runs in the precision of the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from celery_workers.contract.errors import UserInputError
from celery_workers.modeling.loading import check_adapter_fits, check_adapter_folder, load_adapter, load_base
from celery_workers.modeling.precision import Precision, torch_dtype
from celery_workers.modeling.quantization import load_quantized_base
from celery_workers.training.config import TrainingConfig
from celery_workers.training.lora import add_lora, ends_with, resolve_modules, trainable_parameters
from celery_workers.training.sources import Sources

TrainedModel = PreTrainedModel | PeftModel


def plan_method(skeleton: PreTrainedModel, config: TrainingConfig, sources: Sources) -> TrainedModel:
    """Return what ``prepare_model`` would, without weights: whatever does not fit is refused here, before they are read.

    ``skeleton`` is used up.

    Raises: UserInputError: as ``prepare_model``.
    """
    if config.method == "full" or not sources.adapter_folder:
        return prepare_model(skeleton, config, sources)
    model = get_peft_model(skeleton, read_adapter_config(sources.adapter_folder))
    check_adapter_fits(model, sources.adapter_folder)
    return model


def load_training_base(
    config: TrainingConfig, sources: Sources, *, device: torch.device, precision: Precision
) -> PreTrainedModel:
    """Return the base model as the method needs it, in evaluation mode; nothing of it is trained yet.

    Raises: as ``load_base``.
    """
    dtype = torch_dtype("float32" if config.method == "full" else precision)
    load = load_quantized_base if config.method == "qlora" else load_base
    return load(sources.base_folder, dtype=dtype, device=device)


def prepare_model(base: PreTrainedModel, config: TrainingConfig, sources: Sources) -> TrainedModel:
    """Return the model to train, with exactly those parameters asking for gradients that the method trains.

    Draws the first weights of new adapters from torch's global generator.

    Raises: UserInputError: the settings do not fit the base, or the adapter to train on does not.
    """
    if config.method == "full":
        return _choose_weights(base, config.train_modules)
    adapter = sources.adapter_folder
    model = load_adapter(base, adapter, is_trainable=True) if adapter else add_lora(base, config)
    _keep_in_float32(model)
    return model


def _keep_in_float32(model: PeftModel) -> None:
    """Make all that is trained float32: PEFT copies ``modules_to_save`` in the base's type.

    Such a module hands float32 on to the norms, some of which must then have float32 weights too (``torch.layer_norm``).
    """
    trained = trainable_parameters(model)
    for parameter in trained.values():
        parameter.data = parameter.data.float()
    if getattr(model.peft_config["default"], "modules_to_save", None):
        for name, parameter in model.named_parameters():
            if name not in trained and parameter.ndim == 1 and parameter.is_floating_point():
                parameter.data = parameter.data.float()


def read_adapter_config(folder: Path) -> LoraConfig:
    """Return the settings of the LoRA adapter in ``folder``.

    Raises: UserInputError: there is none that is safe to load, or it is of another kind than LoRA.
    """
    check_adapter_folder(folder)
    try:
        adapter = PeftConfig.from_pretrained(str(folder), local_files_only=True)
    except (ValueError, TypeError, KeyError) as error:
        raise UserInputError(f"the adapter's settings cannot be read: {error}", code="unusable_adapter") from error
    if not isinstance(adapter, LoraConfig):
        raise UserInputError(
            f"the adapter must be a LoRA adapter to be trained on, got {type(adapter).__name__}", code="unsupported_adapter"
        )
    adapter.inference_mode = False
    return adapter


def _choose_weights(base: PreTrainedModel, names: Sequence[str]) -> PreTrainedModel:
    """Let only the weights of the named modules ask for gradients, or all weights where no module is named."""
    chosen = resolve_modules(base, names, field="train_modules")
    owners = [
        module for name, module in base.named_modules() if not chosen or any(ends_with(name, ending) for ending in chosen)
    ]
    base.requires_grad_(requires_grad=False)
    for module in owners:
        module.requires_grad_(requires_grad=True)
    return base
