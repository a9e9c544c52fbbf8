"""Random models of several architectures, two layers each, made on the spot for tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerFast

ARCHITECTURES = ("llama", "qwen2", "gpt2", "gemma", "mixtral")
LINEAR = {
    "llama": ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
    "qwen2": ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
    "gpt2": ["c_attn", "c_fc", "c_proj"],
    "gemma": ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
    "mixtral": ["k_proj", "o_proj", "q_proj", "v_proj"],  # its experts are fused parameters, no layers
}
"""Last parts of the names of the linear layers but the head."""


def write_architecture(folder: Path, architecture: str, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Write a model of ``architecture`` with ``tokenizer`` to ``folder``; linear layers are 64 and 128 wide, positions 512.

    gpt2 and gemma tie the head to the embeddings; gpt2 keeps its weights transposed (Conv1D); qwen2 and gpt2 have biases.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(_config(architecture, tokenizer))
        with torch.no_grad():
            for parameter in model.parameters():  # wide enough that the logits differ clearly, biases too
                parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim > 1 else 0.05))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _config(architecture: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    from transformers import GemmaConfig, GPT2Config, LlamaConfig, MixtralConfig, Qwen2Config

    tokens = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if architecture == "gpt2":
        return GPT2Config(n_embd=64, n_layer=2, n_head=4, n_positions=512, **tokens)
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    }
    if architecture == "gemma":
        return GemmaConfig(head_dim=16, **sizes, **tokens)
    if architecture == "mixtral":
        return MixtralConfig(num_local_experts=4, **sizes, **tokens)
    return {"llama": LlamaConfig, "qwen2": Qwen2Config}[architecture](tie_word_embeddings=False, **sizes, **tokens)
