"""What a training was expected to need, beside what it needed: so that nobody takes an estimate for more than it is."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from celery_workers.contract.context import Table
from celery_workers.contract.errors import UserInputError
from celery_workers.contract.estimates import Estimate
from celery_workers.measure_device import measure_device
from celery_workers.training.config import TrainingConfig
from celery_workers.training.estimate import estimate_training
from celery_workers.training.sources import Sources


def expect(config: TrainingConfig, sources: Sources) -> Estimate:
    """Return what ``POST /jobs/estimate`` would say now, for the machine as it is now.

    Nothing is known of settings that do not fit the base: the training itself refuses them, with the reason.
    """
    try:
        return estimate_training(
            config,
            folder=sources.base_folder,
            examples=sources.examples.metadata,
            eval_examples=sources.eval_examples.metadata if sources.eval_examples else None,
            machine=measure_device(threads=torch.get_num_threads()),
        )
    except UserInputError:
        return Estimate()


def describe_expected(expected: Estimate) -> dict[str, object]:
    """Return the estimate under the names of the summary, each with ``expected_`` before it."""
    return {
        "expected_seconds": None if expected.seconds is None else round(expected.seconds, 1),
        "expected_peak_memory_bytes": expected.memory_bytes,
        "expected_tokens": expected.tokens,
        "expected_steps": expected.steps,
    }


def compare_expected(expected: Estimate, summary: Mapping[str, object]) -> Table:
    """Return a table of expected and measured numbers; the time is of the steps alone, without loading and evaluations."""
    pairs = [
        ("steps", expected.steps, summary["steps"]),
        ("tokens", expected.tokens, summary["tokens"]),
        ("peak memory, GB", _giga(expected.memory_bytes), _giga(summary["peak_memory_bytes"])),
        ("time, s", expected.seconds, summary["training_seconds"]),
    ]
    rows = [[name, _rounded(before), _rounded(after)] for name, before, after in pairs]
    return Table(title="Expected and measured", columns=["", "expected", "measured"], rows=rows)


def _giga(count: object) -> float | None:
    return count / 1e9 if isinstance(count, int | float) else None


def _rounded(value: object) -> float | None:
    if not isinstance(value, int | float):
        return None
    return value if isinstance(value, int) else round(value, 2)
