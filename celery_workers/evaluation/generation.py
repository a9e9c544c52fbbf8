"""Greedy generation for many prompts at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_workers.evaluation.rows import length_sorted_batches
from celery_workers.evaluation.scoring import accepts

if TYPE_CHECKING:
    import torch

    from celery_workers.evaluation.scoring import CausalLM

MAX_BATCH_TOKENS = 65_536  # prompt and answer tokens whose keys and values are held at once


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """What bounds an answer. ``stop_ids`` end it and are not part of it."""

    max_new_tokens: int
    batch_size: int
    stop_ids: frozenset[int]
    pad_token_id: int


def generate_greedy(
    model: CausalLM,
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings,
    *,
    on_batch: Callable[[int], None],
    check_canceled: Callable[[], None],
) -> list[list[int]]:
    """Continue each prompt by its most probable tokens; return the new tokens of each, in the order of ``prompts``.

    Prompts are sorted by length and padded on the left; keys and values are kept; a row leaves the batch when it is done.
    An answer ends before the model's last position. ``check_canceled`` is called once a token, ``on_batch`` after each
    batch with its number of prompts. In float32 the batch size does not change the tokens except at exact ties; in
    bfloat16 two nearly equal tokens may change places with it.
    """
    import torch

    answers: dict[int, list[int]] = {}
    lengths = [len(prompt) + settings.max_new_tokens for prompt in prompts]
    with torch.inference_mode():
        for batch in length_sorted_batches(lengths, max_rows=settings.batch_size, max_tokens=MAX_BATCH_TOKENS):
            chosen = [list(prompts[index]) for index in batch]
            answers.update(zip(batch, _generate_batch(model, chosen, settings, check_canceled), strict=True))
            on_batch(len(batch))
    return [answers[index] for index in range(len(prompts))]


def _generate_batch(
    model: CausalLM, prompts: list[list[int]], settings: GenerationSettings, check_canceled: Callable[[], None]
) -> list[list[int]]:
    import torch

    limits = [min(settings.max_new_tokens, _last_position(model) - len(prompt)) for prompt in prompts]
    answers: list[list[int]] = [[] for _ in prompts]
    active = [index for index, limit in enumerate(limits) if limit > 0]
    if not active:
        return answers
    decoder = _Decoder(model, [prompts[index] for index in active], pad_token_id=settings.pad_token_id)
    tokens = decoder.start()
    while True:
        check_canceled()
        for index, token in zip(active, tokens.tolist(), strict=True):
            answers[index].append(token)
        kept = [
            place
            for place, index in enumerate(active)
            if answers[index][-1] not in settings.stop_ids and len(answers[index]) < limits[index]
        ]
        if not kept:
            return [_before_stop(answer, settings.stop_ids) for answer in answers]
        if len(kept) < len(active):
            decoder.keep(torch.tensor(kept))
            tokens = tokens[kept]
            active = [active[place] for place in kept]
        tokens = decoder.step(tokens)


def _before_stop(answer: list[int], stop_ids: frozenset[int]) -> list[int]:
    return answer[:-1] if answer and answer[-1] in stop_ids else answer


def _last_position(model: CausalLM) -> int:
    return getattr(model.config, "max_position_embeddings", None) or 1_000_000


class _Decoder:
    """One batch in flight: its attention mask, positions, keys and values."""

    def __init__(self, model: CausalLM, prompts: Sequence[Sequence[int]], *, pad_token_id: int) -> None:
        import torch
        from transformers import DynamicCache

        width = max(map(len, prompts))
        self._model = model
        self._input_ids = torch.full((len(prompts), width), pad_token_id)
        self._mask = torch.zeros((len(prompts), width), dtype=torch.long)  # (batch, tokens so far)
        for index, prompt in enumerate(prompts):
            self._input_ids[index, width - len(prompt) :] = torch.tensor(prompt)
            self._mask[index, width - len(prompt) :] = 1
        self._input_ids, self._mask = self._input_ids.to(model.device), self._mask.to(model.device)
        self._cache = DynamicCache(config=model.config)
        self._options = {"logits_to_keep": 1} if accepts(model, "logits_to_keep") else {}
        self._takes_positions = accepts(model, "position_ids")
        # transformers 5.24 renamed the argument; the old name goes in 5.40.
        self._cache_argument = "cache" if accepts(model, "cache") else "past_key_values"

    def start(self) -> torch.Tensor:
        """Read the prompts and return the first new token of each, (batch,) int64."""
        return self._forward(self._input_ids, (self._mask.cumsum(dim=1) - 1).clamp(min=0))

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token to each row and return the next ones."""
        import torch

        self._mask = torch.cat([self._mask, self._mask.new_ones((len(tokens), 1))], dim=1)
        return self._forward(tokens[:, None], self._mask.sum(dim=1, keepdim=True) - 1)

    def keep(self, places: torch.Tensor) -> None:
        """Go on with the rows at ``places`` only."""
        places = places.to(self._mask.device)
        self._mask = self._mask[places]
        self._cache.batch_select_indices(places)

    def _forward(self, input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        options = {**self._options, self._cache_argument: self._cache}
        if self._takes_positions:
            options["position_ids"] = positions
        output = self._model(input_ids=input_ids, attention_mask=self._mask, use_cache=True, **options)
        logits: torch.Tensor = output.logits  # (batch, 1, vocabulary)
        return logits[:, -1].argmax(dim=-1)
