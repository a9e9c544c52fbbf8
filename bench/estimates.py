"""Compare what the platform expects of a training with what it turns out to need: memory and time, over many configurations.

    python -m bench.estimates --model var/models/bundled/smollm2-135m-instruct

Each configuration trains a few steps on the orders example in a fresh process, for which ``POST /jobs/estimate`` would have
said the figures beside it: the same function, the same metadata, and the machine as a worker measures it, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BASE_MODEL = Path("var/models/bundled/smollm2-135m-instruct")
ALL = {"target_modules": "all-linear", "lora_dropout": 0.0}
CONFIGS: dict[str, dict[str, object]] = {
    "lora r16 all, 512 tokens": {**ALL, "tokens_per_batch": 512, "max_steps": 12},
    "lora r16 all, 1024 tokens": {**ALL, "tokens_per_batch": 1024, "max_steps": 8},
    "lora r16 all, 2048 tokens": {**ALL, "tokens_per_batch": 2048, "max_steps": 5},
    "lora r64 all, 512 tokens": {**ALL, "lora_r": 64, "tokens_per_batch": 512, "max_steps": 10},
    "lora r8 q,v, 1024 tokens": {"lora_r": 8, "lora_dropout": 0.0, "tokens_per_batch": 1024, "max_steps": 10},
    "lora r16 all, dropout, 1024": {**ALL, "lora_dropout": 0.05, "tokens_per_batch": 1024, "max_steps": 8},
    "lora r16 all, 4 rows": {**ALL, "batch_size": 4, "max_steps": 15},
    "lora r16 all, 16 rows": {**ALL, "batch_size": 16, "max_steps": 5},
    "lora, 512 x 4 accumulated": {**ALL, "tokens_per_batch": 512, "gradient_accumulation": 4, "max_steps": 4},
    "lora, checkpointing, 2048": {**ALL, "tokens_per_batch": 2048, "gradient_checkpointing": True, "max_steps": 4},
    "lora, float32, 512 tokens": {**ALL, "precision": "float32", "tokens_per_batch": 512, "max_steps": 8},
    "lora, float32, 1024 tokens": {**ALL, "precision": "float32", "tokens_per_batch": 1024, "max_steps": 5},
    "dora r16 all, 512 tokens": {**ALL, "use_dora": True, "tokens_per_batch": 512, "max_steps": 6},
    "qlora r16 all, 512 tokens": {**ALL, "method": "qlora", "tokens_per_batch": 512, "max_steps": 6},
    "full, 512 tokens": {"method": "full", "tokens_per_batch": 512, "max_steps": 6},
    "full, checkpointing, 1024": {
        "method": "full", "tokens_per_batch": 1024, "gradient_checkpointing": True, "max_steps": 4,
    },
}  # fmt: skip


def run_one(name: str, model_folder: Path) -> dict[str, float]:
    """Train one configuration in this process; return what was expected and what came, in gigabytes and seconds."""
    from bench.train_speed import token_rows
    from celery_workers.contract import Examples
    from celery_workers.contract.testing import RecordingContext
    from celery_workers.data.examples_file import ExamplesWriter, open_examples
    from celery_workers.data.examples_metadata import length_quantiles
    from celery_workers.modeling.device import peak_memory_bytes, pick_device
    from celery_workers.modeling.tokenizer import tokenizer_digest
    from celery_workers.training.config import TrainingConfig
    from celery_workers.training.loop import train
    from celery_workers.training.sources import Sources

    config = TrainingConfig(**CONFIGS[name], checkpoint_every_seconds=86_400)
    with tempfile.TemporaryDirectory() as folder:
        with ExamplesWriter(Path(folder)) as writer:
            for number, row in enumerate(token_rows(model_folder), start=1):
                writer.append(row["input_ids"], row["labels"], row_number=number)
        table = open_examples(Path(folder))
        metadata = {
            "tokenizer_digest": tokenizer_digest(model_folder),
            "rows": len(table),
            "tokens": table.tokens,
            "supervised_tokens": table.supervised_tokens,
            "length_quantiles": length_quantiles(table.lengths),
        }
        examples = Examples(path=Path(folder), metadata=metadata)
        expected = _expect(config, model_folder, metadata)
        started = time.perf_counter()
        train(RecordingContext(workdir=Path(folder)), config, Sources(base_folder=model_folder, examples=examples))
        seconds = time.perf_counter() - started
    return {**expected, "memory": peak_memory_bytes(pick_device()) / 1e9, "seconds": seconds}


def _expect(config: object, model_folder: Path, metadata: dict[str, object]) -> dict[str, float]:
    """Ask a process of its own, so that its memory is not counted here."""
    document = json.dumps({"config": config.model_dump(mode="json"), "folder": str(model_folder), "examples": metadata})
    command = [sys.executable, "-m", "bench.estimates", "--expect"]
    done = subprocess.run(command, input=document, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def expect() -> dict[str, float]:
    """Answer ``_expect`` from standard input."""
    from celery_workers.measure_device import measure_device
    from celery_workers.training.config import TrainingConfig
    from celery_workers.training.estimate import estimate_training

    asked = json.loads(sys.stdin.read())
    estimate = estimate_training(
        TrainingConfig(**asked["config"]),
        folder=Path(asked["folder"]),
        examples=asked["examples"],
        eval_examples=None,
        machine=measure_device(threads=os.cpu_count() or 1),
    )
    return {"expected_memory": (estimate.memory_bytes or 0) / 1e9, "expected_seconds": estimate.seconds or 0.0}


def main() -> None:
    """Print a line per configuration, and the median and worst errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=BASE_MODEL, help=f"folder of the base model (default {BASE_MODEL})")
    parser.add_argument("--only", default="", help="part of the names of the configurations to run")
    parser.add_argument("--one", choices=list(CONFIGS), help=argparse.SUPPRESS)
    parser.add_argument("--expect", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.expect:
        print(json.dumps(expect()))
        return
    if arguments.one:
        print(json.dumps(run_one(arguments.one, arguments.model)))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}; load before {os.getloadavg()[0]:.1f}")
    print(f"{'':30} {'memory, GB':>22} {'time, s':>26}")
    print(f"{'':30} {'expected':>8} {'came':>6} {'error':>6}   {'expected':>8} {'came':>7} {'error':>7}")
    errors: dict[str, list[float]] = {"memory": [], "seconds": []}
    for name in (name for name in CONFIGS if arguments.only in name):
        command = [sys.executable, "-m", "bench.estimates", "--one", name, "--model", str(arguments.model)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name:30} failed: {done.stderr.strip().splitlines()[-1]}")
            continue
        numbers = json.loads(done.stdout.strip().splitlines()[-1])
        error = {what: numbers[f"expected_{what}"] / numbers[what] - 1 for what in errors}
        for what, one in error.items():
            errors[what].append(abs(one))
        print(
            f"{name:30} {numbers['expected_memory']:8.2f} {numbers['memory']:6.2f} {error['memory']:+6.0%}"
            f"   {numbers['expected_seconds']:8.1f} {numbers['seconds']:7.1f} {error['seconds']:+7.0%}",
            flush=True,
        )
    for what, found in errors.items():
        if found:
            print(
                f"{what}: median error {statistics.median(found):.0%}, worst {max(found):.0%}, over {len(found)} configurations"
            )


if __name__ == "__main__":
    main()
