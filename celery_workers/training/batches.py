"""Decide which rows train together, and join them end to end.

The order follows from the seed and the epoch alone, so a place in it is just a step number: a resume needs nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from celery_workers.data.examples_file import IGNORED_LABEL
from celery_workers.training.attention import Segments, build_segments
from celery_workers.training.config import TrainingConfig

Indices = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.int32]
Row = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]
"""Token ids (L,) and labels (L,) int32."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows joined end to end; there is no padding.

    input_ids (1, T) int64; position_ids (1, T) int64, restarting at 0 for each row; kept (S,) int64, the positions whose
    next token is trained on; targets (S,) int64, those next tokens, row after row; row_supervised, how many of them each
    row has. T tokens, S supervised tokens.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    kept: torch.Tensor
    targets: torch.Tensor
    row_supervised: tuple[int, ...]
    segments: Segments

    @property
    def tokens(self) -> int:
        return self.input_ids.shape[1]

    @property
    def supervised_tokens(self) -> int:
        return self.targets.shape[0]


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Examples whose gradients are computed at once: one part, or a part for each row where rows cannot be joined.

    reference (rows,) float32: the log-probability that the reference gives to each row's supervised tokens;
    is_desirable (rows,) bool. Each is there for the objectives that ask for it.
    """

    parts: tuple[Batch, ...]
    reference: torch.Tensor | None = None
    is_desirable: torch.Tensor | None = None

    @property
    def tokens(self) -> int:
        return sum(part.tokens for part in self.parts)

    @property
    def supervised_tokens(self) -> int:
        return sum(part.supervised_tokens for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps of a whole training: ``epoch_steps[e]`` optimizer steps in epoch ``e``, cut at ``total_steps``."""

    epoch_steps: list[int]
    total_steps: int

    def epoch_of(self, step: int) -> tuple[int, int]:
        """Return the 0-based epoch in which 0-based step ``step`` lies, and its place within that epoch."""
        ends = np.cumsum(self.epoch_steps)
        epoch = int(np.searchsorted(ends, step, side="right"))
        return epoch, step - int(ends[epoch] - self.epoch_steps[epoch])

    def epochs_done(self, step: int) -> float:
        """Return how many epochs ``step`` finished steps are, with the fraction of the one begun."""
        if step >= sum(self.epoch_steps):
            return float(len(self.epoch_steps))
        epoch, place = self.epoch_of(step)
        return epoch + place / self.epoch_steps[epoch]

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch has just ended after ``step`` finished steps."""
        return step in np.cumsum(self.epoch_steps)


def plan_steps(lengths: Lengths, config: TrainingConfig, *, seed: int) -> Plan:
    """Count the steps of every epoch; they differ where batches are filled by tokens."""
    epoch_steps = [len(epoch_batches(lengths, config, seed=seed, epoch=epoch)) for epoch in range(config.epochs)]
    total = sum(epoch_steps)
    return Plan(epoch_steps=epoch_steps, total_steps=min(total, config.max_steps or total))


def epoch_batches(lengths: Lengths, config: TrainingConfig, *, seed: int, epoch: int) -> list[list[Indices]]:
    """Return the steps of an epoch: for each its micro-batches, for each of these the indices of its examples.

    ``lengths`` are tokens per example. Every example comes exactly once. One longer than the token budget is a micro-batch
    of its own.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(lengths))
    if config.tokens_per_batch is None:
        batches = np.split(order, range(config.batch_size, len(order), config.batch_size))
    else:
        batches = list(_fill(order, lengths, budget=config.tokens_per_batch))
    size = config.gradient_accumulation
    return [batches[start : start + size] for start in range(0, len(batches), size)]


def length_sorted_batches(lengths: Lengths, *, budget: int) -> list[Indices]:
    """Return batches of examples of similar length, for measuring a loss, where the order does not matter."""
    return list(_fill(np.argsort(lengths, kind="stable"), lengths, budget=budget))


def _fill(order: Indices, lengths: Lengths, *, budget: int) -> Iterator[Indices]:
    start, tokens = 0, 0
    for place, index in enumerate(order):
        if place > start and tokens + lengths[index] > budget:
            yield order[start:place]
            start, tokens = place, 0
        tokens += int(lengths[index])
    yield order[start:]


def join(rows: Sequence[Row], device: torch.device) -> Batch:
    """Join rows end to end into one long row on ``device``."""
    lengths = [len(ids) for ids, _labels in rows]
    next_labels = [np.append(labels[1:], IGNORED_LABEL) for _ids, labels in rows]
    joined = np.concatenate(next_labels)
    kept = np.flatnonzero(joined != IGNORED_LABEL)
    return Batch(
        input_ids=_tensor(np.concatenate([ids for ids, _labels in rows])[None], device),
        position_ids=_tensor(np.concatenate([np.arange(length) for length in lengths])[None], device),
        kept=_tensor(kept, device),
        targets=_tensor(joined[kept], device),
        row_supervised=tuple(int(np.count_nonzero(labels != IGNORED_LABEL)) for labels in next_labels),
        segments=build_segments(lengths, device),
    )


def halve(batch: Indices, lengths: Lengths, *, times: int) -> list[Indices]:
    """Cut a micro-batch in two ``times`` over, each time where the tokens left and right are most alike.

    A piece of one example is not cut; the pieces, one after the other, are the micro-batch.
    """
    if times == 0 or len(batch) < 2:
        return [batch]
    running = np.cumsum(lengths[batch], dtype=np.int64)
    cut = 1 + int(np.argmin(np.abs(running[:-1] - running[-1] / 2)))
    return [piece for half in (batch[:cut], batch[cut:]) for piece in halve(half, lengths, times=times - 1)]


def _tensor(values: npt.NDArray[np.integer], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.int64)).to(device)
