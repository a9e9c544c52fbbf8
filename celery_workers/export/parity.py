"""How far an exported model is from the live one: logits on fixed probe texts, compared position by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    CausalLM = PreTrainedModel | PeftModel

PROBES = (
    "The old lighthouse keeper climbed the stairs every evening, counting each step aloud as the tide came in.",
    "Q: What is the boiling point of water at sea level?\nA: It boils at 100 degrees Celsius, which is 212 degrees Fahrenheit.",
    'def mean(values):\n    """Return the arithmetic mean."""\n    return sum(values) / len(values)\n',
    '{"name": "tea", "size": "large", "quantity": 2, "takeaway": true, "notes": null}',
    "Les élèves ont visité le musée d'histoire naturelle; la visite a duré trois heures.",
    "1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610",
    "Please summarise the following minutes in two sentences and list every open question with its owner.",
    "Der Zug nach Hamburg fährt heute um 17:42 Uhr von Gleis 9 ab und hält nicht in Lüneburg.",
)
"""Prose, a question, code, JSON, two more languages, numbers, an instruction: some 200 positions in most tokenizers."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What an export may differ by. ``max_logit_difference`` is null where rounding makes it meaningless."""

    max_logit_difference: float | None
    min_top1_agreement: float
    max_kl_nats: float


# Measured on SmolLM2-135M: float32 1e-4, 1.000 and 1e-11; bfloat16 weights 0.4, 0.984 and 1e-4. A wrong scale or a missing
# layer is orders worse.
TOLERANCES = {
    "identical": Tolerance(max_logit_difference=0.0, min_top1_agreement=1.0, max_kl_nats=0.0),
    "float32": Tolerance(max_logit_difference=0.01, min_top1_agreement=0.98, max_kl_nats=1e-5),
    "bfloat16": Tolerance(max_logit_difference=None, min_top1_agreement=0.90, max_kl_nats=0.02),
}


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Measured over all probe positions. ``top1_agreement`` is the share, 0 to 1, with the same most probable token;
    ``kl_nats`` the mean Kullback-Leibler divergence of the exported distribution from the live one."""

    positions: int
    max_logit_difference: float
    top1_agreement: float
    kl_nats: float

    def breaches(self, tolerance: Tolerance) -> list[str]:
        """Return what lies outside ``tolerance``: rule, limit and value. A number that is not one lies outside."""
        limit = tolerance.max_logit_difference
        found = []
        if limit is not None and not self.max_logit_difference <= limit:
            found.append(f"max |logit difference| must be <= {limit:g}, got {self.max_logit_difference:g}")
        if not self.top1_agreement >= tolerance.min_top1_agreement:
            found.append(f"top-1 agreement must be >= {tolerance.min_top1_agreement:g}, got {self.top1_agreement:g}")
        if not self.kl_nats <= tolerance.max_kl_nats:
            found.append(f"KL divergence must be <= {tolerance.max_kl_nats:g} nats, got {self.kl_nats:g}")
        return found


def probe_ids(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return the token ids of every probe."""
    return [ids for ids in (list(tokenizer(text)["input_ids"]) for text in PROBES) if ids]


def probe_logits(model: CausalLM, probes: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Return the logits of each probe, (tokens, vocabulary) float32 on the CPU."""
    import torch

    with torch.inference_mode():
        return [
            model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False).logits[0].float().cpu()
            for ids in probes
        ]


def measure_parity(live: Sequence[torch.Tensor], exported: Sequence[torch.Tensor]) -> Parity:
    """Compare two lists of logits of equal shapes; NaN in either makes the differences NaN.

    Raises: ValueError: the shapes differ.
    """
    import torch

    if [item.shape for item in live] != [item.shape for item in exported]:
        raise ValueError(f"logits must be of equal shapes, got {[*map(tuple, (item.shape for item in exported))]}")
    before, after = torch.cat(list(live)), torch.cat(list(exported))  # (positions, vocabulary)
    log_p, log_q = before.double().log_softmax(-1), after.double().log_softmax(-1)
    return Parity(
        positions=len(before),
        max_logit_difference=float((before - after).abs().max()),
        top1_agreement=float((before.argmax(-1) == after.argmax(-1)).double().mean()),
        kl_nats=float((log_p.exp() * (log_p - log_q)).sum(-1).mean()),
    )
