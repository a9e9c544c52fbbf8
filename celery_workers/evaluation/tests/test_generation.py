"""Greedy generation against transformers' own, and against itself over batch sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from celery_workers.contract.errors import Canceled
from celery_workers.evaluation.generation import GenerationSettings, generate_greedy
from celery_workers.evaluation.rows import EvaluationRow

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SETTINGS = GenerationSettings(max_new_tokens=24, batch_size=4, stop_ids=frozenset({2}), pad_token_id=0)


def generate(
    model: PreTrainedModel,
    prompts: list[list[int]],
    settings: GenerationSettings = SETTINGS,
    check_canceled: Callable[[], None] = lambda: None,
) -> list[list[int]]:
    return generate_greedy(model, prompts, settings, on_batch=lambda count: None, check_canceled=check_canceled)


def greedy_of_transformers(model: PreTrainedModel, prompt: list[int], stop_ids: set[int], length: int) -> list[int]:
    import torch

    made = model.generate(
        torch.tensor([prompt]), max_new_tokens=length, do_sample=False, eos_token_id=sorted(stop_ids), pad_token_id=0
    )[0, len(prompt) :].tolist()
    return made[:-1] if made[-1] in stop_ids else made


def test_answers_equal_those_of_transformers(tiny_model: PreTrainedModel, rows: list[EvaluationRow]) -> None:
    prompts = [row.prompt_ids for row in rows]
    # Tokens that the model does produce stop its answers at different lengths, so rows leave the batch one by one.
    free = generate(tiny_model, prompts, replace(SETTINGS, stop_ids=frozenset()))
    stops = {answer[place] for place, answer in zip((2, 5, 9, 14), free[:4], strict=True)}

    answers = generate(tiny_model, prompts, replace(SETTINGS, stop_ids=frozenset(stops)))

    assert answers == [greedy_of_transformers(tiny_model, prompt, stops, 24) for prompt in prompts]
    assert len({len(answer) for answer in answers}) > 2


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_batch_size_does_not_change_answers(tiny_model: PreTrainedModel, rows: list[EvaluationRow], batch_size: int) -> None:
    prompts = [row.prompt_ids for row in rows]

    answers = generate(tiny_model, prompts, replace(SETTINGS, batch_size=batch_size))

    assert answers == generate(tiny_model, prompts)


def test_an_answer_ends_before_the_last_position(tiny_model: PreTrainedModel) -> None:
    prompts = [[7] * 505, [9] * 512, [11] * 4]

    answers = generate(tiny_model, prompts, replace(SETTINGS, stop_ids=frozenset()))

    assert [len(answer) for answer in answers] == [7, 0, 24]  # 512 positions


def test_a_stop_token_is_no_part_of_the_answer(tiny_model: PreTrainedModel) -> None:
    (free,) = generate(tiny_model, [[7, 8, 9]], replace(SETTINGS, stop_ids=frozenset()))

    (answer,) = generate(tiny_model, [[7, 8, 9]], replace(SETTINGS, stop_ids=frozenset({free[0]})))

    assert answer == []


def test_cancel_stops_within_one_token(tiny_model: PreTrainedModel) -> None:
    checks = 0

    def cancel_at_third() -> None:
        nonlocal checks
        checks += 1
        if checks == 3:
            raise Canceled

    with pytest.raises(Canceled):
        generate(tiny_model, [[7, 8, 9]], replace(SETTINGS, stop_ids=frozenset()), check_canceled=cancel_at_third)

    assert checks == 3
