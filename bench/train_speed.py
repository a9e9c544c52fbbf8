"""Compare the speed of training with peers on the same rows and machine: real tokens a second, and peak memory.

    python -m bench.train_speed --model var/models/bundled/smollm2-135m-instruct --steps 6

Each contestant trains LoRA r=16 on all linear layers over the orders example, in bfloat16, in a fresh process. Only real
tokens count, so padding is paid for; the first step is left out. Needs bench/requirements.txt.
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
from collections.abc import Callable
from pathlib import Path

CONTESTANTS = ("ours", "trl_padded", "trl_packed", "hf_grouped")
BASE_MODEL = Path("var/models/bundled/smollm2-135m-instruct")
TOKENS_PER_BATCH = 1024
ROWS_PER_BATCH = 8
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def token_rows(model_folder: Path) -> list[dict[str, list[int]]]:
    """Tokenize the training rows of the orders example; only the answer is supervised."""
    from transformers import AutoTokenizer

    from examples.orders import order_rows

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    rows = []
    for row in order_rows():
        if row["split"] == "train":
            messages = row["messages"]
            prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
            ids = tokenizer.apply_chat_template(messages, return_dict=False)
            rows.append({"input_ids": ids, "labels": [-100] * len(prompt) + ids[len(prompt) :]})
    return rows


def run_ours(model_folder: Path, rows: list[dict[str, list[int]]], steps: int) -> list[float]:
    """Return the tokens a second of each step of the platform's own loop."""
    from celery_workers.contract import Examples
    from celery_workers.contract.testing import RecordingContext
    from celery_workers.data.examples_file import ExamplesWriter
    from celery_workers.modeling.tokenizer import tokenizer_digest
    from celery_workers.training.config import TrainingConfig
    from celery_workers.training.loop import train
    from celery_workers.training.sources import Sources

    config = TrainingConfig(
        target_modules="all-linear",
        lora_r=LORA["r"],
        lora_alpha=LORA["lora_alpha"],
        lora_dropout=0,
        tokens_per_batch=TOKENS_PER_BATCH,
        max_steps=steps,
        precision="bfloat16",
        checkpoint_every_seconds=86_400,
    )
    with tempfile.TemporaryDirectory() as folder:
        with ExamplesWriter(Path(folder)) as writer:
            for number, row in enumerate(rows, start=1):
                writer.append(row["input_ids"], row["labels"], row_number=number)
        examples = Examples(path=Path(folder), metadata={"tokenizer_digest": tokenizer_digest(model_folder)})
        context = RecordingContext(workdir=Path(folder))
        train(context, config, Sources(base_folder=model_folder, examples=examples))
    return [float(metric.data["tokens_per_second"]) for metric in context.metrics]


def run_trl_padded(model_folder: Path, rows: list[dict[str, list[int]]], steps: int) -> list[float]:
    """TRL's SFTTrainer, eight rows padded to the longest."""
    return _run_trl(model_folder, rows, steps, per_device_train_batch_size=ROWS_PER_BATCH)


def run_trl_packed(model_folder: Path, rows: list[dict[str, list[int]]], steps: int) -> list[float]:
    """TRL's SFTTrainer, rows packed into blocks of 1,024 tokens."""
    return _run_trl(
        model_folder,
        rows,
        steps,
        per_device_train_batch_size=1,
        packing=True,
        packing_strategy="wrapped",
        max_length=TOKENS_PER_BATCH,
    )


def _run_trl(model_folder: Path, rows: list[dict[str, list[int]]], steps: int, **options: object) -> list[float]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    masked = [
        {"input_ids": row["input_ids"], "completion_mask": [int(label != -100) for label in row["labels"]]} for row in rows
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(**_common_arguments(folder, steps), **options)
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.bfloat16),
            args=arguments,
            train_dataset=Dataset.from_list(masked),
            processing_class=AutoTokenizer.from_pretrained(model_folder),
            peft_config=LoraConfig(**LORA),
        )
        return _timed(trainer)


def run_hf_grouped(model_folder: Path, rows: list[dict[str, list[int]]], steps: int) -> list[float]:
    """transformers' Trainer, eight rows of similar length padded to the longest."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            **_common_arguments(folder, steps),
            per_device_train_batch_size=ROWS_PER_BATCH,
            train_sampling_strategy="group_by_length",
        )
        trainer = Trainer(
            model=get_peft_model(base, LoraConfig(**LORA)),
            args=arguments,
            train_dataset=Dataset.from_list([{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]),
            data_collator=DataCollatorForSeq2Seq(tokenizer),
        )
        return _timed(trainer)


def _common_arguments(folder: str, steps: int) -> dict[str, object]:
    import torch

    return {
        "output_dir": folder,
        "max_steps": steps,
        "bf16": True,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": "none",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }


def _timed(trainer: object) -> list[float]:
    """Train, and return the real tokens a second of each step: those that some row holds, not its padding."""
    from transformers import TrainerCallback

    tokens: list[int] = []
    ends: list[float] = []
    collate = trainer.data_collator

    def counting(rows: list[dict[str, object]]) -> dict[str, object]:
        tokens.append(sum(len(row["input_ids"]) for row in rows))
        return collate(rows)

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: object, **__: object) -> None:
            ends.append(time.perf_counter())

        def on_step_end(self, *_: object, **__: object) -> None:
            ends.append(time.perf_counter())

    trainer.data_collator = counting
    trainer.add_callback(Clock())
    trainer.train()
    return [count / (end - start) for count, start, end in zip(tokens, ends, ends[1:], strict=False)]


RUNNERS: dict[str, Callable[[Path, list[dict[str, list[int]]], int], list[float]]] = {
    "ours": run_ours,
    "trl_padded": run_trl_padded,
    "trl_packed": run_trl_packed,
    "hf_grouped": run_hf_grouped,
}


def run_one(name: str, model_folder: Path, steps: int) -> dict[str, float]:
    """Run one contestant in this process and return its numbers."""
    from celery_workers.modeling.device import peak_memory_bytes, pick_device

    speeds = RUNNERS[name](model_folder, token_rows(model_folder), steps)
    later = speeds[1:] or speeds
    return {
        "tokens_per_second": statistics.median(later),
        "best_tokens_per_second": max(later),
        "peak_gb": peak_memory_bytes(pick_device()) / 1e9,
    }


def main() -> None:
    """Print a table of all contestants, or the numbers of one as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=BASE_MODEL, help=f"folder of the base model (default {BASE_MODEL})")
    parser.add_argument("--steps", type=int, default=6, help="steps of each contestant (default 6)")
    parser.add_argument("--only", default=",".join(CONTESTANTS), help="contestants, by comma")
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run_one(arguments.one, arguments.model, arguments.steps)))
        return
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}"
    print(f"{machine}; load before {load:.1f}; {arguments.steps} steps each")
    print(f"{'':12} {'tokens/s':>9} {'best':>6} {'peak GB':>8}")
    for name in arguments.only.split(","):
        command = [sys.executable, "-m", "bench.train_speed", "--one", name, "--steps", str(arguments.steps)]
        done = subprocess.run([*command, "--model", str(arguments.model)], capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name:12} failed: {done.stderr.strip().splitlines()[-1]}")
            continue
        numbers = json.loads(done.stdout.strip().splitlines()[-1])
        print("{:12} {:9.0f} {:6.0f} {:8.1f}".format(name, *numbers.values()))


if __name__ == "__main__":
    main()
