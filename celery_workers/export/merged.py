"""Export full weights: the adapter folded into its base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from celery_workers.modeling.precision import Precision, torch_dtype
from celery_workers.modeling.tokenizer import copy_tokenizer

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel


def fold_adapter(model: PeftModel) -> PreTrainedModel:
    """Return the base with the adapter added to its weights: W + scale * B A, in the type of W. ``model`` is used up.

    Fold in float32: in bfloat16 the update is rounded away where it is small beside W.

    Source: Hu et al. 2021, arXiv:2106.09685, section 4.1.
    """
    return cast("PreTrainedModel", model.merge_and_unload(safe_merge=True))


def save_full(model: PreTrainedModel, folder: Path, *, tokenizer_folder: Path, dtype: Precision) -> None:
    """Write weights (safetensors, in ``dtype``), config, generation config and the tokenizer of ``tokenizer_folder``; plain
    transformers loads it.

    ``model`` is converted in place. The config keeps no path of this machine.

    Raises: OSError: the folder cannot be written.
    """
    cast("torch.nn.Module", model).to(torch_dtype(dtype))
    model.config.dtype = torch_dtype(dtype)
    model.config.name_or_path = ""
    model.save_pretrained(folder)
    copy_tokenizer(tokenizer_folder, folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes files that only their owner can read
