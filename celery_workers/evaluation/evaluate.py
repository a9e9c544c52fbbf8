"""Score one model on rows: loss and perplexity by teacher forcing, exact match by greedy generation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celery_workers.contract.context import AgentContext
from celery_workers.evaluation.answers import MatchMode, is_match
from celery_workers.evaluation.generation import GenerationSettings, generate_greedy
from celery_workers.evaluation.rows import EvaluationRow, stop_token_ids
from celery_workers.evaluation.scoring import RowLoss, score_rows
from celery_workers.evaluation.subject import SubjectRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from celery_workers.evaluation.scoring import CausalLM

GENERATION_WEIGHT = 10  # a generated row takes about as long as this many scored ones


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What to measure. ``metrics`` holds names among loss, perplexity and exact_match."""

    metrics: frozenset[str]
    generate: bool
    match: MatchMode
    max_new_tokens: int
    batch_size: int

    @property
    def needs_loss(self) -> bool:
        """Whether rows are scored by teacher forcing."""
        return bool(self.metrics & {"loss", "perplexity"})


@dataclass(kw_only=True)
class Meter:
    """Counts work done over all subjects and reports it as the node's progress; checks for cancel on the way."""

    ctx: AgentContext
    total: int
    done: int = field(default=0, init=False)

    def advance(self, units: int) -> None:
        """Count ``units`` more. Raises: Canceled."""
        self.done += units
        self.ctx.progress(min(1.0, self.done / max(1, self.total)))
        self.ctx.check_canceled()


def work_units(rows: Sequence[EvaluationRow], measurement: Measurement) -> int:
    """Return how far the meter goes for one model."""
    questions = sum(row.has_question for row in rows) if measurement.generate else 0
    return len(rows) * measurement.needs_loss + GENERATION_WEIGHT * questions


def evaluate_model(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[EvaluationRow],
    measurement: Measurement,
    meter: Meter,
) -> list[SubjectRow]:
    """Measure ``model`` on every row, in the order of ``rows``.

    Raises: Canceled: at the next batch, or the next token of a generation.
    """
    pad_token_id = padding_id(tokenizer)
    losses: list[RowLoss] | None = None
    if measurement.needs_loss:
        losses = score_rows(model, rows, batch_size=measurement.batch_size, pad_token_id=pad_token_id, on_batch=meter.advance)
    answers = _generate(model, tokenizer, rows, measurement, meter) if measurement.generate else {}
    return [
        _subject_row(row, losses[index] if losses else None, answers.get(index), tokenizer, measurement)
        for index, row in enumerate(rows)
    ]


def overall_scores(rows: Sequence[SubjectRow], metrics: frozenset[str]) -> dict[str, float | int | None]:
    """Sum up the rows: loss per supervised token over all of them (nats), its exponential, and the share of matches, 0 to 1.

    A metric that applies to no row is null, and so is a loss that is not finite.
    """
    scores: dict[str, float | int | None] = {}
    tokens = sum(row.supervised_tokens for row in rows)
    if metrics & {"loss", "perplexity"}:
        loss = _mean_loss(rows, tokens)
        if "loss" in metrics:
            scores["loss"] = loss
        if "perplexity" in metrics:
            scores["perplexity"] = math.exp(loss) if loss is not None and loss < 700 else None  # exp(710) overflows
    if "exact_match" in metrics:
        matches = [row.exact_match for row in rows if row.exact_match is not None]
        scores["exact_match"] = sum(matches) / len(matches) if matches else None
    return {**scores, "rows": len(rows), "supervised_tokens": tokens}


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return a token id to fill up with; what it is does not matter, for the attention mask hides it."""
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0


def decode(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """Return the text without special tokens and outer white space."""
    return str(tokenizer.decode(list(token_ids), skip_special_tokens=True)).strip()


def _mean_loss(rows: Sequence[SubjectRow], tokens: int) -> float | None:
    if not tokens or any(row.loss is None and row.supervised_tokens for row in rows):
        return None
    return math.fsum(row.loss * row.supervised_tokens for row in rows if row.loss is not None) / tokens


def _generate(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[EvaluationRow],
    measurement: Measurement,
    meter: Meter,
) -> dict[int, str]:
    asked = [index for index, row in enumerate(rows) if row.has_question]
    settings = GenerationSettings(
        max_new_tokens=measurement.max_new_tokens,
        batch_size=measurement.batch_size,
        stop_ids=stop_token_ids(
            rows, eos_token_ids=_eos_token_ids(model, tokenizer), special_token_ids=tokenizer.all_special_ids
        ),
        pad_token_id=padding_id(tokenizer),
    )
    generated = generate_greedy(
        model,
        [rows[index].prompt_ids for index in asked],
        settings,
        on_batch=lambda count: meter.advance(count * GENERATION_WEIGHT),
        check_canceled=meter.ctx.check_canceled,
    )
    return {index: decode(tokenizer, answer) for index, answer in zip(asked, generated, strict=True)}


def _eos_token_ids(model: CausalLM, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    configured = model.generation_config.eos_token_id if model.generation_config else None
    ids = configured if isinstance(configured, list) else [configured]
    return [token_id for token_id in (*ids, tokenizer.eos_token_id) if token_id is not None]


def _subject_row(
    row: EvaluationRow,
    loss: RowLoss | None,
    generated: str | None,
    tokenizer: PreTrainedTokenizerBase,
    measurement: Measurement,
) -> SubjectRow:
    reference = decode(tokenizer, row.reference_ids) if generated is not None else None
    exact_match = None
    if "exact_match" in measurement.metrics and generated is not None and reference is not None:
        exact_match = is_match(generated, reference, measurement.match)
    per_token = loss.per_token if loss else None
    return SubjectRow(
        row_number=row.row_number,
        loss=per_token if per_token is not None and math.isfinite(per_token) else None,
        supervised_tokens=row.supervised_tokens,
        exact_match=exact_match,
        generated=generated,
        reference=reference,
    )
