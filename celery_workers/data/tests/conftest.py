"""Tokenizers made on the spot: byte-level BPE with merges, and one that marks words as SentencePiece does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CORPUS = ["Below is an instruction: hello there.\n\n### Response:\nhello hello yes no, user assistant system\n\n" * 20]
TOKENS = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<end_of_turn>",
]


@pytest.fixture(scope="session")
def make_bpe_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    """Return a function that makes a byte-level BPE tokenizer with merges and the given chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    # Without a regular expression words don't part merges: a line end at the prompt's end may join the answer's.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=TOKENS, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    text = tokenizer.to_str()

    def make(chat_template: str | None = None, *, eos: str | None = "</s>", adds_bos: bool = False) -> PreTrainedTokenizerFast:
        copy = Tokenizer.from_str(text)
        if adds_bos:
            copy.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        fast = PreTrainedTokenizerFast(
            tokenizer_object=copy, bos_token="<s>", eos_token=eos, clean_up_tokenization_spaces=False,
            additional_special_tokens=TOKENS[2:],
        )  # fmt: skip
        fast.chat_template = chat_template
        return fast

    return make


@pytest.fixture(scope="session")
def metaspace_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that puts a word mark before every text, as Llama 2's does: pieces of a text tokenize otherwise."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator([*CORPUS, "[INST] <<SYS>> [/INST]"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )
