"""Examples of random bytes for the tiny model, and a training of a few steps on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from celery_workers.contract import Examples
from celery_workers.contract.testing import RecordingContext
from celery_workers.data.examples_file import ExamplesWriter
from celery_workers.data.examples_schema import ExamplesKind
from celery_workers.modeling.tokenizer import tokenizer_digest
from celery_workers.training.sources import Sources

FIRST_BYTE_ID = 3  # after the special tokens of the tiny tokenizer


@dataclass(kw_only=True)
class StoringContext(RecordingContext):
    """Moves every checkpoint out of the workdir, as the platform does; ``stored`` are the folders."""

    store: Path

    def checkpoint(self, path: Path, *, step: int, keep: int = 2) -> None:
        """Copy the folder to ``store/<step>``."""
        import shutil

        super().checkpoint(path, step=step, keep=keep)
        shutil.copytree(path, self.store / str(step))


def write_examples(folder: Path, *, lengths: Sequence[int], seed: int = 0, base_folder: Path | None = None) -> Examples:
    """Write one row of random bytes per length; the latter half of each row is supervised."""
    generator = np.random.default_rng(seed)
    with ExamplesWriter(folder) as writer:
        for number, length in enumerate(lengths, start=1):
            ids = generator.integers(FIRST_BYTE_ID, 250, length)
            labels = np.where(np.arange(length) >= max(1, length // 2), ids, -100)
            writer.append(ids, labels, row_number=number)
    return _examples(folder, base_folder)


def write_pairs(folder: Path, *, pairs: int, seed: int = 0, base_folder: Path | None = None) -> Examples:
    """Write pairs of random completions of 2 to 12 bytes to random prompts of 1 to 9 bytes."""
    generator = np.random.default_rng(seed)
    with ExamplesWriter(folder, kind=ExamplesKind.PREFERENCE) as writer:
        for number in range(1, pairs + 1):
            prompt = generator.integers(FIRST_BYTE_ID, 250, generator.integers(1, 10))
            chosen, rejected = (_completed(prompt, generator) for _side in range(2))
            writer.append_pair(chosen, rejected, row_number=number)
    return _examples(folder, base_folder)


def write_kto(folder: Path, *, rows: int, seed: int = 0, base_folder: Path | None = None) -> Examples:
    """Write rows of random prompts and completions; every other one is desirable."""
    generator = np.random.default_rng(seed)
    with ExamplesWriter(folder, kind=ExamplesKind.KTO) as writer:
        for number in range(1, rows + 1):
            ids, labels = _completed(generator.integers(FIRST_BYTE_ID, 250, generator.integers(1, 10)), generator)
            writer.append(ids, labels, row_number=number, is_desirable=number % 2 == 1)
    return _examples(folder, base_folder)


def _completed(prompt: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    completion = generator.integers(FIRST_BYTE_ID, 250, generator.integers(2, 13))
    return np.concatenate([prompt, completion]), np.concatenate([np.full(len(prompt), -100), completion])


def _examples(folder: Path, base_folder: Path | None) -> Examples:
    digest = tokenizer_digest(base_folder) if base_folder else ""
    return Examples(path=folder, metadata={"base_model": "local:tiny", "tokenizer_digest": digest, "template": "model"})


@pytest.fixture
def sources(tmp_path: Path, tiny_model_folder: Path) -> Sources:
    """Twelve training rows and four evaluation rows of mixed lengths for the tiny model."""
    return Sources(
        base_folder=tiny_model_folder,
        examples=write_examples(
            tmp_path / "examples", lengths=[9, 20, 5, 33, 12, 7, 16, 25, 11, 6, 14, 18], base_folder=tiny_model_folder
        ),
        eval_examples=write_examples(tmp_path / "eval", lengths=[8, 22, 13, 5], seed=1, base_folder=tiny_model_folder),
    )


@pytest.fixture
def make_context(tmp_path: Path) -> Callable[..., StoringContext]:
    """Make contexts with a workdir and a checkpoint store of their own."""
    count = 0

    def make(**options: object) -> StoringContext:
        nonlocal count
        count += 1
        folder = tmp_path / f"attempt-{count}"
        (folder / "work").mkdir(parents=True)
        return StoringContext(workdir=folder / "work", store=folder / "store", seed=11, **options)

    return make
