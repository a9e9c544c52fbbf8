"""Rows for the tests of preprocessing, and what became of them."""

from __future__ import annotations

from celery_workers.data.canonical import CanonicalRow
from celery_workers.data.examples_file import open_examples

BASE = "local:tiny"


def pair(number: int, prompt: str, completion: str, **extras: str) -> CanonicalRow:
    return CanonicalRow(number, {"prompt": prompt, "completion": completion}, extras)


ROWS = [pair(number, f"question {number}", f"answer {number}") for number in range(1, 101)]


def compared(number: int, chosen: str, rejected: str) -> CanonicalRow:
    said = {"chosen": [{"role": "assistant", "content": chosen}], "rejected": [{"role": "assistant", "content": rejected}]}
    return CanonicalRow(number, {"prompt": [{"role": "user", "content": f"question {number}"}], **said, "tools": None})


def sides(outputs) -> tuple[list[int], list[int]]:
    held_out = open_examples(outputs.eval_examples.path).row_numbers.tolist() if outputs.eval_examples else []
    return open_examples(outputs.examples.path).row_numbers.tolist(), held_out


def table(report: dict, title: str) -> dict[str, object]:
    return {row[0]: row[1:] for found in report["tables"] if found["title"] == title for row in found["rows"]}
