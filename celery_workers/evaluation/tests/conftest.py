"""Rows of different lengths for the tiny model."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from celery_workers.evaluation.rows import EvaluationRow, split_row
from celery_workers.modeling.loading import load_base

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@pytest.fixture(scope="module")
def tiny_model(tiny_model_folder: Path) -> PreTrainedModel:
    """The tiny model in float32; do not change it."""
    import torch

    return load_base(tiny_model_folder, dtype=torch.float32)


@pytest.fixture(scope="session")
def rows() -> list[EvaluationRow]:
    """11 rows of 6 to 60 random tokens, with a supervised end; one has a second supervised segment."""
    generator = random.Random(5)
    made = []
    for number in range(1, 12):
        prompt = [generator.randrange(3, 259) for _ in range(generator.randrange(3, 40))]
        answer = [*(generator.randrange(3, 259) for _ in range(generator.randrange(2, 19))), 2]
        labels = [-100] * len(prompt) + answer
        if number == 4:
            prompt, labels = [*prompt, 7, 8, 9], [*labels[:-3], -100, -100, -100, *labels[-3:]]
        made.append(split_row(row_number=number, input_ids=[*prompt, *answer], labels=labels))
    return made
