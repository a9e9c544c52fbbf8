"""What a training learns: one function per objective, from log-probabilities to a loss.

An objective sees one micro-batch at a time and returns its *share*: the shares of all micro-batches of a step add up to
the step's loss, so that 8 micro-batches of 1 example train exactly like 1 of 8. ``Totals`` holds what the step's loss is
averaged over, and the one number that all its micro-batches have in common.

``sft`` and ``pretraining`` differ only in which tokens are supervised, which is settled when the examples are opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from celery_workers.contract.errors import BugError
from celery_workers.training.batches import Batch, MicroBatch
from celery_workers.training.config import TrainingConfig
from celery_workers.training.loss import TokenLogprobs

LARGEST_LOGPROB = -1e-6
"""ORPO's odds of a completion that is certain would be infinite; a mean log-probability above this one counts as it."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What a whole step, or evaluation, holds: supervised tokens, those of preferred rows, examples, desirable examples.

    ``kl``, in nats and >= 0, is how far the model has gone from the reference on mismatched completions (KTO).
    """

    supervised_tokens: int
    chosen_tokens: int = 0
    examples: int = 1
    desirable: int = 0
    kl: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a micro-batch adds to its step. loss () float32; metrics () float32 each, without gradient."""

    loss: torch.Tensor
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)


Objective = Callable[[TokenLogprobs, MicroBatch, Totals, TrainingConfig], Share]


def cross_entropy(logprobs: TokenLogprobs, batch: MicroBatch, totals: Totals, config: TrainingConfig) -> Share:  # noqa: ARG001
    """Cross entropy per supervised token, in nats."""
    return Share(loss=-torch.stack([logprobs(part).sum() for part in batch.parts]).sum() / totals.supervised_tokens)


def dpo(logprobs: TokenLogprobs, batch: MicroBatch, totals: Totals, config: TrainingConfig) -> Share:
    """-log sigmoid of the margin between the rewards of the chosen and the rejected completion, per pair.

    A completion's reward is beta times its log-probability over that of the reference. With label smoothing e, the pair
    counts as e of the other way round.

    Source: Rafailov et al. 2023, arXiv:2305.18290, equation 7; label smoothing: Mitchell 2023, "A note on DPO with noisy
    preferences".
    """
    chosen, rejected = _pairs(config.beta * (row_logprobs(logprobs, batch) - _known(batch.reference)))
    margins = chosen - rejected
    losses = -(1 - config.label_smoothing) * F.logsigmoid(margins) - config.label_smoothing * F.logsigmoid(-margins)
    return Share(loss=losses.sum() / totals.examples, metrics=_pair_metrics(chosen, rejected, totals))


def orpo(logprobs: TokenLogprobs, batch: MicroBatch, totals: Totals, config: TrainingConfig) -> Share:
    """Cross entropy per token of the chosen completion, less lambda times log sigmoid of the log odds ratio per pair.

    The odds are those of a completion's mean log-probability. Needs no reference.

    Source: Hong et al. 2024, arXiv:2403.07691, equations 3, 4, 6 and 7.
    """
    rows = _by_row(logprobs, batch)
    means = torch.stack([row.mean() for row in rows]).clamp(max=LARGEST_LOGPROB)  # (rows,)
    chosen, rejected = _pairs(means)
    log_odds_ratios = (chosen - rejected) - (log_one_minus_exp(chosen) - log_one_minus_exp(rejected))
    supervised = -torch.stack([row.sum() for row in rows[::2]]).sum() / totals.chosen_tokens
    preferred = -F.logsigmoid(log_odds_ratios).sum() / totals.examples
    metrics = _pair_metrics(config.orpo_lambda * chosen, config.orpo_lambda * rejected, totals)
    metrics["log_odds_ratio"] = log_odds_ratios.detach().sum() / totals.examples
    return Share(loss=supervised + config.orpo_lambda * preferred, metrics=metrics)


def kto(logprobs: TokenLogprobs, batch: MicroBatch, totals: Totals, config: TrainingConfig) -> Share:
    """1 - sigmoid of how far a completion's reward lies on its right side of the step's KL, per row, weighted by side.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306, equation 8; the KL is estimated on mismatched completions.
    """
    is_desirable = _known(batch.is_desirable)
    ratios = row_logprobs(logprobs, batch) - _known(batch.reference)  # (rows,)
    sides = torch.where(is_desirable, 1.0, -1.0)
    weights = torch.where(is_desirable, config.desirable_weight, config.undesirable_weight)
    losses = weights * (1 - torch.sigmoid(config.beta * sides * (ratios - totals.kl)))
    rewards = config.beta * ratios.detach()
    metrics = {"kl": torch.tensor(totals.kl * len(ratios) / totals.examples)}
    if totals.desirable:
        metrics["reward_desirable"] = rewards[is_desirable].sum() / totals.desirable
    if totals.desirable < totals.examples:
        metrics["reward_undesirable"] = rewards[~is_desirable].sum() / (totals.examples - totals.desirable)
    return Share(loss=losses.sum() / totals.examples, metrics=metrics)


OBJECTIVES: dict[str, Objective] = {"sft": cross_entropy, "pretraining": cross_entropy, "dpo": dpo, "orpo": orpo, "kto": kto}
REFERENCED = frozenset({"dpo", "kto"})
"""These compare the model with the one that the training began with."""


def row_logprobs(logprobs: TokenLogprobs, batch: MicroBatch) -> torch.Tensor:
    """Return the summed log-probability of each row's supervised tokens, (rows,) float32."""
    return torch.stack([row.sum() for row in _by_row(logprobs, batch)])


def part_logprobs(logprobs: TokenLogprobs, part: Batch) -> Sequence[torch.Tensor]:
    """Return the log-probabilities of each row's supervised tokens, one tensor (S_row,) a row."""
    return logprobs(part).split(list(part.row_supervised))


def log_one_minus_exp(values: torch.Tensor) -> torch.Tensor:
    """Return log(1 - exp(x)) for x < 0, exact near 0 and far from it.

    Source: Mächler 2012, "Accurately computing log(1 - exp(-|a|))", which cuts at -log 2.
    """
    return torch.where(values < -0.693147, torch.log1p(-torch.exp(values)), torch.log(-torch.expm1(values)))


def _known(values: torch.Tensor | None) -> torch.Tensor:
    if values is None:
        raise BugError("the micro-batch lacks what its objective asks for")
    return values


def _by_row(logprobs: TokenLogprobs, batch: MicroBatch) -> list[torch.Tensor]:
    return [row for part in batch.parts for row in part_logprobs(logprobs, part)]


def _pairs(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the chosen and the rejected of (2 x pairs,) values in which they alternate."""
    if len(rows) % 2:
        raise BugError(f"a micro-batch of pairs must have an even number of rows, got {len(rows)}")
    chosen, rejected = rows.view(-1, 2).unbind(1)
    return chosen, rejected


def _pair_metrics(chosen: torch.Tensor, rejected: torch.Tensor, totals: Totals) -> dict[str, torch.Tensor]:
    """Return mean rewards, their margin, and the share of pairs in which the chosen completion has the higher one."""
    chosen, rejected = chosen.detach(), rejected.detach()
    sums = {
        "reward_chosen": chosen.sum(),
        "reward_rejected": rejected.sum(),
        "reward_margin": (chosen - rejected).sum(),
        "reward_accuracy": (chosen > rejected).sum(),
    }
    return {name: value / totals.examples for name, value in sums.items()}
