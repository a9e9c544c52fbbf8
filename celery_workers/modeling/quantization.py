"""Load a base model in 4 bits: the frozen weights of QLoRA.

Linear layers but the head are stored as nf4 in blocks of 64 weights, whose scales are themselves quantized (double
quantization): about 4.13 bits a weight. Everything else (embeddings, norms, the head, the fused experts of a mixture) stays
in ``dtype``.

Source: Dettmers et al. 2023, arXiv:2305.14314.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from celery_workers.modeling.loading import load_with

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

NF4 = "nf4"


def load_quantized_base(
    folder: Path, *, dtype: torch.dtype, attention: str = "sdpa", device: str | torch.device = "cpu"
) -> PreTrainedModel:
    """Return the causal language model in ``folder`` in nf4, in evaluation mode; it computes in ``dtype``.

    The weights are quantized from ``dtype``, one tensor after the other, so the full model is never in memory at once.

    Raises: as ``load_base``.
    """
    import torch
    from transformers import BitsAndBytesConfig

    return _keep_differentiable(
        load_with(
            folder,
            device=torch.device(device),
            dtype=dtype,
            attn_implementation=attention,
            device_map={"": torch.device(device)},
            quantization_config=BitsAndBytesConfig(  # type: ignore[no-untyped-call]
                load_in_4bit=True,
                bnb_4bit_quant_type=NF4,
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            ),
        )
    )


def _keep_differentiable(model: PreTrainedModel) -> PreTrainedModel:
    """Switch off what bitsandbytes does on processors that multiply bfloat16, for good.

    The first forward pass in evaluation mode would repack the weights for a product that has no backward pass (the adapters
    below would silently get no gradient), rounds the scales to bfloat16 and refuses layers whose width is no multiple of 32.
    Seen in bitsandbytes 0.50.2 (``Linear4bit.forward``).
    """
    from bitsandbytes.nn.modules import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model
