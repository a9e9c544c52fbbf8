"""A model without its weights: every module and shape that its config describes, at no cost of memory.

What a config asks of a model (modules, ranks, positions, the shapes of an adapter) is checked against the skeleton, so that a
mistake is known in a second and not after gigabytes were read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from celery_workers.contract.errors import UserInputError
from celery_workers.modeling.loading import check_base_folder, quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_skeleton(folder: Path) -> PreTrainedModel:
    """Return the causal language model in ``folder`` on torch's meta device: parameters have shapes and no values.

    Reads ``config.json`` only.

    Raises: UserInputError: as ``load_base``, as far as it shows without the weights.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    check_base_folder(folder)
    quiet_transformers()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    except (ValueError, KeyError, OSError, TypeError, AttributeError) as error:
        raise UserInputError(f"the base model cannot be loaded: {error}", code="unusable_model") from error
    return model


def max_positions_of(model: PreTrainedModel) -> int | None:
    """Return the tokens of the longest row that ``model`` can read; None where its architecture knows no limit."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(positions) if positions else None
