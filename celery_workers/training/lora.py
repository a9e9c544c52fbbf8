"""Lay LoRA adapters over a base model, in 16, 32 or 4 bits.

Sources: Hu et al. 2021, arXiv:2106.09685 (the update of a weight W is (alpha / r) B A, with B zero at first); Kalajdzievski
2023, arXiv:2312.03732 (rsLoRA: alpha / sqrt(r)); Liu et al. 2024, arXiv:2402.09353 (DoRA: W's columns keep a learned length).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.constants import EMBEDDING_LAYER_NAMES
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from celery_workers.contract.errors import UserInputError
from celery_workers.training.config import ALL_LINEAR, TrainingConfig


def add_lora(base: PreTrainedModel, config: TrainingConfig) -> PeftModel:
    """Return ``base``, frozen, with new adapters on the target modules; adapters are float32.

    ``base`` may be a skeleton. Draws the first weights from torch's global generator.

    Raises: UserInputError: a module does not exist, or the rank is larger than a target; the message lists what there is.
    """
    targets = resolve_targets(base, config.target_modules)
    _check_rank(base, targets, rank=config.lora_r)
    saved, is_tied = _saved_modules(base, config.modules_to_save)
    both = sorted(set(targets) & set(saved))
    if both:
        raise UserInputError(
            f"a module is adapted or trained whole, not both: {', '.join(both)} is in target_modules and in modules_to_save",
            code="module_named_twice",
            field="modules_to_save",
        )
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        use_dora=config.use_dora,
        use_rslora=config.use_rslora,
        modules_to_save=saved or None,
        ensure_weight_tying=is_tied,
        fan_in_fan_out=_has_conv1d(base),
        bias="none",
    )
    try:
        return get_peft_model(base, lora, autocast_adapter_dtype=True)
    except ValueError as error:
        raise UserInputError(f"the adapters do not fit the base model: {error}", code="unusable_targets") from error


def resolve_targets(base: PreTrainedModel, names: Sequence[str]) -> list[str]:
    """Return the sorted module names that ``names`` stands for; all-linear is every linear layer but the head.

    A name stands for the linear layers whose full names end with it, in whole parts.

    Raises: UserInputError: a name fits no linear layer.
    """
    layers = linear_layers(base)
    existing = sorted({name.rpartition(".")[2] for name in layers})
    if list(names) == [ALL_LINEAR]:
        return existing
    unknown = sorted(name for name in set(names) if not any(ends_with(layer, name) for layer in layers))
    if unknown:
        raise UserInputError(
            f"target_modules must be among {', '.join(existing)} or {ALL_LINEAR}, got {', '.join(unknown)}",
            code="unknown_target_modules",
            field="target_modules",
            evidence={"existing": existing},
        )
    return sorted(set(names))


def resolve_modules(base: PreTrainedModel, names: Sequence[str], *, field: str) -> list[str]:
    """Return ``names``, sorted, each of which stands for the modules whose full names end with it, in whole parts.

    Raises: UserInputError: a name fits no module with weights of its own or below it; ``field`` is the config's.
    """
    existing = [name for name, module in base.named_modules() if name and any(True for _ in module.parameters())]
    unknown = sorted(name for name in set(names) if not any(ends_with(module, name) for module in existing))
    if unknown:
        shown = sorted({name.rpartition(".")[2] for name in existing} - {str(number) for number in range(10_000)})
        raise UserInputError(
            f"{field} must be among {', '.join(shown)} or longer ends of module names, got {', '.join(unknown)}",
            code=f"unknown_{field}",
            field=field,
            evidence={"existing": shown},
        )
    return sorted(set(names))


def ends_with(full_name: str, name: str) -> bool:
    """Whether the dotted ``full_name`` ends with the whole parts of ``name``."""
    return full_name == name or full_name.endswith(f".{name}")


def linear_layers(base: PreTrainedModel) -> dict[str, tuple[int, int]]:
    """Return input and output width of all linear layers but the head, by full name, in the model's order."""
    head = base.get_output_embeddings()
    layers: dict[str, tuple[int, int]] = {}
    for name, module in base.named_modules():
        if module is head:
            continue
        if isinstance(module, torch.nn.Linear):
            layers[name] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            layers[name] = (module.nx, module.nf)
    return layers


def trainable_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that are trained, by name, in the model's order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _check_rank(base: PreTrainedModel, targets: Sequence[str], *, rank: int) -> None:
    sides = {
        name: min(widths) for name, widths in linear_layers(base).items() if any(ends_with(name, target) for target in targets)
    }
    narrowest = min(sides, key=sides.__getitem__)
    if rank > sides[narrowest]:
        raise UserInputError(
            f"lora_r must be <= {sides[narrowest]}, the smaller side of the narrowest target {narrowest}, got {rank}",
            code="rank_out_of_range",
            field="lora_r",
        )


def _saved_modules(base: PreTrainedModel, names: Sequence[str]) -> tuple[list[str], bool]:
    """Return the modules to save, and whether the embeddings among them are tied to the head: then the tie is kept.

    Raises: UserInputError: a name fits no module, or PEFT cannot keep the tie.
    """
    saved = resolve_modules(base, names, field="modules_to_save")
    if not getattr(base.config.get_text_config(), "tie_word_embeddings", False):
        return saved, False
    ends = (base.get_input_embeddings(), base.get_output_embeddings())
    tied_names = [name for name, module in base.named_modules() if module in ends]
    tied = {name for name in saved if any(ends_with(full_name, name) for full_name in tied_names)}
    if not tied:
        return saved, False
    embeddings = tied_names[0].rpartition(".")[2]
    if embeddings not in EMBEDDING_LAYER_NAMES:
        raise UserInputError(
            f"modules_to_save cannot hold {', '.join(sorted(tied))}: in this model embeddings ({embeddings}) and head are one"
            " weight, which adapters would tear apart; leave it out, or use method full",
            code="tied_modules",
            field="modules_to_save",
        )
    return sorted({*saved, embeddings} - (tied - {embeddings})), True


def _has_conv1d(base: PreTrainedModel) -> bool:
    return any(isinstance(module, Conv1D) for module in base.modules())
