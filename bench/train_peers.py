"""The peers of ``bench.train_speed``, each in the setting that is fastest on a CPU.

A contestant trains once over the rows with LoRA and returns what it did. Needs bench/requirements.txt.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TOKENS_PER_BATCH = 1024
ROWS_PER_BATCH = 6
"""About as many tokens as ours: the same effective batch."""
PACKED_TOKENS = 512
LEARNING_RATE = 2e-4
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}

Row = Mapping[str, list[int]]
"""input_ids and labels (-100: not supervised), both of the row's length."""


@dataclass(frozen=True)
class Step:
    """Real tokens, those that some row holds, and seconds and loss of a step; loss is per supervised token, in nats."""

    tokens: int
    seconds: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class Task:
    """What each contestant does. steps: None trains once over all rows."""

    model_folder: Path
    rows: Sequence[Row]
    precision: str
    steps: int | None = None


def run_ours(task: Task) -> list[Step]:
    """The platform's own loop."""
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
        learning_rate=LEARNING_RATE,
        tokens_per_batch=TOKENS_PER_BATCH,
        max_steps=task.steps,
        precision=task.precision,
        checkpoint_every_seconds=86_400,
    )
    with tempfile.TemporaryDirectory() as folder:
        with ExamplesWriter(Path(folder)) as writer:
            for number, row in enumerate(task.rows, start=1):
                writer.append(row["input_ids"], row["labels"], row_number=number)
        examples = Examples(path=Path(folder), metadata={"tokenizer_digest": tokenizer_digest(task.model_folder)})
        context = RecordingContext(workdir=Path(folder))
        training = train(context, config, Sources(base_folder=task.model_folder, examples=examples))
    speeds = [float(metric.data["tokens_per_second"]) for metric in context.metrics]
    tokens = sum(len(row["input_ids"]) for row in task.rows) if task.steps is None else training.history.tokens
    seconds = [tokens / len(speeds) / speed for speed in speeds]
    return [
        Step(round(speed * second), second, metric.loss)
        for speed, second, metric in zip(speeds, seconds, context.metrics, strict=True)
    ]


def run_trl_padded(task: Task) -> list[Step]:
    """TRL's SFTTrainer, rows padded to the longest of their batch."""
    return _run_trl(task, per_device_train_batch_size=ROWS_PER_BATCH)


def run_trl_packed(task: Task) -> list[Step]:
    """TRL's SFTTrainer, rows packed into blocks and cut where one ends; rows of a block see each other."""
    return _run_trl(
        task,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=TOKENS_PER_BATCH // PACKED_TOKENS,
        packing=True,
        packing_strategy="wrapped",
        max_length=PACKED_TOKENS,
    )


def _run_trl(task: Task, **options: object) -> list[Step]:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    masked = [
        {"input_ids": row["input_ids"], "completion_mask": [int(label != -100) for label in row["labels"]]} for row in task.rows
    ]
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=_load(task),
            args=SFTConfig(**_arguments(task, folder), **{"max_length": None, "completion_only_loss": True, **options}),
            train_dataset=Dataset.from_list(masked),
            processing_class=AutoTokenizer.from_pretrained(task.model_folder),
            peft_config=LoraConfig(**LORA),
        )
        return _timed(trainer)


def run_hf_grouped(task: Task) -> list[Step]:
    """transformers' Trainer, rows of similar length padded to the longest of their batch."""
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=get_peft_model(_load(task), LoraConfig(**LORA)),
            args=TrainingArguments(
                **_arguments(task, folder),
                per_device_train_batch_size=ROWS_PER_BATCH,
                train_sampling_strategy="group_by_length",
            ),
            train_dataset=Dataset.from_list([{**row, "attention_mask": [1] * len(row["input_ids"])} for row in task.rows]),
            data_collator=DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained(task.model_folder)),
        )
        return _timed(trainer)


def _load(task: Task) -> object:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(task.model_folder, dtype=getattr(torch, task.precision))


def _arguments(task: Task, folder: str) -> dict[str, object]:
    import torch

    return {
        "output_dir": folder,
        "max_steps": task.steps or -1,
        "num_train_epochs": 1,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 1,
        "bf16": task.precision == "bfloat16",
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": "none",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "disable_tqdm": True,
    }


def _timed(trainer: object) -> list[Step]:
    """Train; a row's real tokens are counted before it is padded."""
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
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    size = trainer.args.gradient_accumulation_steps
    counts = [sum(tokens[start : start + size]) for start in range(0, len(tokens), size)]
    return [Step(count, end - start, loss) for count, start, end, loss in zip(counts, ends, ends[1:], losses, strict=False)]


RUNNERS: dict[str, Callable[[Task], list[Step]]] = {
    "ours": run_ours,
    "trl_padded": run_trl_padded,
    "trl_packed": run_trl_packed,
    "hf_grouped": run_hf_grouped,
}
