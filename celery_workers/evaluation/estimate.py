"""What an evaluation will need: a forward pass over the rows, and answers written token by token."""

from __future__ import annotations

from pathlib import Path

from celery_workers.contract.estimates import Estimate, JsonObject, Machine
from celery_workers.data.expected_rows import number

SHARE_WHEN_READING = 0.5
"""Of the machine's speed in large products, what the forward pass over the rows reaches."""

SHARE_WHEN_WRITING = 0.12
"""The same for generation, which reads all weights for every token of a batch."""

SECONDS_A_SUBJECT = 5.0
PROCESS_BYTES = 700_000_000


def estimate_evaluation(
    folder: Path, examples: JsonObject, *, machine: Machine, subjects: int, max_rows: int | None, max_new_tokens: int
) -> Estimate:
    """Return what measuring ``subjects`` models of the base in ``folder`` takes; the base's shapes stand for all.

    Answers are taken to be as long as the references.

    Raises: UserInputError: the base cannot be read.
    """
    from celery_workers.modeling.skeleton import load_skeleton

    parameters = sum(parameter.numel() for parameter in load_skeleton(folder).parameters())
    rows = number(examples, "rows")
    part = min(rows, max_rows) / rows if rows and max_rows else 1.0
    tokens = number(examples, "tokens") * part
    answers = min(number(examples, "supervised_tokens") * part, max_new_tokens * rows * part)
    precision = max(machine.flops, key=machine.flops.__getitem__, default="float32")
    speed = machine.flops.get(precision, 0.0)
    seconds = None
    if speed:
        reading, writing = 2.0 * parameters * tokens, 2.0 * parameters * answers
        seconds = subjects * (SECONDS_A_SUBJECT + (reading / SHARE_WHEN_READING + writing / SHARE_WHEN_WRITING) / speed)
    return Estimate(
        seconds=seconds,
        memory_bytes=PROCESS_BYTES + parameters * (4 if precision == "float32" else 2),
        tokens=int(subjects * (tokens + answers)),
        notes=() if speed else ("No worker has measured its machine yet.",),
    )
