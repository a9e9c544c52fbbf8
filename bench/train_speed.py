"""Compare the speed and memory of training with peers on the same rows and machine.

    python -m bench.train_speed --model var/models/bundled/smollm2-135m-instruct
    python -m bench.train_speed --precisions float32 --only ours,trl_packed --rows 60
    python -m bench.train_speed --check

Each contestant trains LoRA r=16 on all linear layers once over chats of one to five turns, in a fresh process. Only real tokens
count, so padding is paid for. "cold" counts from before the base is loaded to the end, with everything that is tried,
compiled or warmed up; "steady" is the median step but the first. The ceiling is what the machine's matrix products alone
allow, measured on the model's own shapes right before. ``--check`` compares losses instead: with TRL's on the same batch,
joined rows with rows alone, and one micro-batch of eight rows with eight of one. Needs bench/requirements.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

from bench.train_peers import LORA, RUNNERS, Row, Step, Task, run_ours, run_trl_padded

BASE_MODEL = Path("var/models/bundled/smollm2-135m-instruct")
TURNS = (1, 1, 1, 1, 2, 2, 3, 5)
TIMED_TOKENS = 1024


def token_rows(model_folder: Path) -> list[dict[str, list[int]]]:
    """Tokenize the training rows of the orders example; only the answer is supervised."""
    return [_tokenize(model_folder, row["messages"]) for row in _orders()]


def chat_rows(model_folder: Path, count: int) -> list[dict[str, list[int]]]:
    """Tokenize chats of one to five orders, 85 to 480 tokens with SmolLM2; only the answers are supervised."""
    rng, orders, rows = random.Random(7), _orders(), []
    for _ in range(count):
        picked = [row["messages"] for row in rng.sample(orders, rng.choice(TURNS))]
        rows.append(_tokenize(model_folder, [picked[0][0], *(message for messages in picked for message in messages[1:])]))
    return rows


def _orders() -> list[dict[str, object]]:
    from examples.orders import order_rows

    return [row for row in order_rows() if row["split"] == "train"]


def _tokenize(model_folder: Path, messages: list[dict[str, str]]) -> dict[str, list[int]]:
    tokenizer = _tokenizer(model_folder)
    ids = tokenizer.apply_chat_template(messages, return_dict=False)
    labels = [-100] * len(ids)
    for place, message in enumerate(messages):
        if message["role"] == "assistant":
            start = len(tokenizer.apply_chat_template(messages[:place], add_generation_prompt=True, return_dict=False))
            end = len(tokenizer.apply_chat_template(messages[: place + 1], return_dict=False))
            labels[start:end] = ids[start:end]
    return {"input_ids": ids, "labels": labels}


_TOKENIZERS: dict[Path, object] = {}


def _tokenizer(model_folder: Path) -> object:
    from transformers import AutoTokenizer

    if model_folder not in _TOKENIZERS:
        _TOKENIZERS[model_folder] = AutoTokenizer.from_pretrained(model_folder)
    return _TOKENIZERS[model_folder]


# --- the ceiling -----------------------------------------------------------------------------------------------------


def ceiling(model_folder: Path, rows: list[Row], precision: str) -> dict[str, float]:
    """Return the speed of the model's products alone: GFLOP/s, and tokens/s of a LoRA step that is nothing else.

    A step multiplies each frozen weight twice a token (forward, and back to the input), each adapter thrice, and the head
    twice a supervised token. Attention's own products are left out.
    """
    import torch
    from torch import nn
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_folder))
    head = model.get_output_embeddings()
    shapes = [tuple(module.weight.shape) for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
    seconds = {shape: _seconds_of_products(shape, getattr(torch, precision)) for shape in set(shapes)}
    base = sum(n * k for n, k in shapes)
    rate = 4 * base * TIMED_TOKENS / sum(seconds[shape] for shape in shapes)
    supervised = sum(label != -100 for row in rows for label in row["labels"]) / sum(len(row["labels"]) for row in rows)
    adapters = sum(LORA["r"] * (n + k) for n, k in shapes)
    per_token = 4 * base + 6 * adapters + 4 * head.weight.numel() * supervised
    return {"gflops": rate / 1e9, "tokens_per_second": rate / per_token}


def _seconds_of_products(shape: tuple[int, int], dtype: object) -> float:
    """Return the seconds of ``x W'`` and ``g W``: the best of several, by torch or by oneDNN itself, whichever is faster."""
    import torch
    import torch.nn.functional as F  # noqa: N812 (its usual name)

    ways = [F.linear]
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        ways.append(lambda x, weight: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], ""))
    forward, back = torch.randn(shape).to(dtype), torch.randn(shape[::-1]).to(dtype)
    total = 0.0
    for weight in (forward, back):
        x = torch.randn(TIMED_TOKENS, weight.shape[1]).to(dtype)
        total += min(_best_seconds(way, x, weight) for way in ways)
    return total


def _best_seconds(way: object, *tensors: object) -> float:
    found = []
    for _ in range(12):
        started = time.perf_counter()
        way(*tensors)
        found.append(time.perf_counter() - started)
    return min(found[2:])


# --- the contest -----------------------------------------------------------------------------------------------------


def run_one(name: str, task: Task) -> dict[str, object]:
    """Run one contestant in this process and return its numbers."""
    from celery_workers.modeling.device import peak_memory_bytes, pick_device

    started = time.perf_counter()
    steps = RUNNERS[name](task)
    seconds = time.perf_counter() - started
    later = [step.tokens / step.seconds for step in steps[1:] or steps]
    return {
        "cold": sum(step.tokens for step in steps) / seconds,
        "steady": statistics.median(later),
        "peak_gb": peak_memory_bytes(pick_device()) / 1e9,
        "first_loss": steps[0].loss,
        "last_loss": statistics.mean(step.loss for step in steps[-5:]),
        "steps": len(steps),
        "tokens": sum(step.tokens for step in steps),
    }


def compare(arguments: argparse.Namespace) -> None:
    """Print one table a number type."""
    rows = chat_rows(arguments.model, arguments.rows)
    lengths = sorted(len(row["input_ids"]) for row in rows)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}; load {os.getloadavg()[0]:.1f} before")
    print(f"{len(rows)} rows, {sum(lengths):,} tokens, {lengths[0]} to {lengths[-1]}, median {lengths[len(lengths) // 2]}")
    for precision in arguments.precisions.split(","):
        print(f"\n{precision:12} {'cold':>8} {'ours is':>8} {'steady':>8} {'of top':>7} {'peak GB':>8} {'ours is':>8}", end="")
        print(f" {'loss at 1':>10} {'at end':>7} {'steps':>6} {'load':>5}")
        ours: dict[str, float] = {}
        for name in arguments.only.split(","):
            top = ceiling(arguments.model, rows, precision)
            found = _in_own_process(name, precision, arguments)
            ours = ours or found
            share, memory = found["steady"] / top["tokens_per_second"], ours["peak_gb"] / found["peak_gb"]
            print(f"{name:12} {found['cold']:8.0f} {ours['cold'] / found['cold']:7.2f}x {found['steady']:8.0f}", end="")
            print(f" {share:7.0%} {found['peak_gb']:8.2f} {memory:7.2f}x {found['first_loss']:10.5f}", end="")
            print(f" {found['last_loss']:7.4f} {found['steps']:6.0f} {os.getloadavg()[0]:5.1f}", flush=True)
        print(f"{'products':12} {'':8} {'':8} {top['tokens_per_second']:8.0f} {1:7.0%}   ({top['gflops']:.0f} GFLOP/s)")


def _in_own_process(name: str, precision: str, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.train_speed", "--one", name, "--precisions", precision]
    command += ["--model", str(arguments.model), "--rows", str(arguments.rows)]
    command += ["--steps", str(arguments.steps)] if arguments.steps else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


# --- the check -------------------------------------------------------------------------------------------------------


def check(model_folder: Path) -> None:
    """Print how far losses are apart that should be equal, in float32."""
    rows = chat_rows(model_folder, 6)
    task = Task(model_folder=model_folder, rows=rows, precision="float32", steps=1)
    joined = run_ours(task)
    with patch("celery_workers.training.setup.join_rows", return_value=False):
        alone = run_ours(task)
    with patch("celery_workers.training.setup.accelerate", return_value=0):
        plain = run_ours(task)
    _print_difference("ours, TRL on the same batch", joined, run_trl_padded(task))
    _print_difference("rows joined, rows alone", joined, alone)
    _print_difference("accelerated, PEFT as it comes", joined, plain)


def _print_difference(what: str, ones: list[Step], others: list[Step]) -> None:
    one, other = ones[0].loss, others[0].loss
    print(f"{what:32} {one:.8f} {other:.8f}   {abs(one - other) / other:.1e} relative")


def main() -> None:
    """Print the tables, or the check, or the numbers of one contestant as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=BASE_MODEL, help=f"folder of the base model (default {BASE_MODEL})")
    parser.add_argument("--rows", type=int, default=200, help="rows to train on, once (default 200)")
    parser.add_argument("--steps", type=int, help="stop after so many steps; without it, after all rows")
    parser.add_argument("--only", default=",".join(RUNNERS), help="contestants, by comma; ratios are to the first")
    parser.add_argument("--precisions", default="bfloat16,float32", help="number types, by comma")
    parser.add_argument("--check", action="store_true", help="compare losses instead of speeds")
    parser.add_argument("--one", choices=RUNNERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        rows = chat_rows(arguments.model, arguments.rows)
        task = Task(model_folder=arguments.model, rows=rows, precision=arguments.precisions, steps=arguments.steps)
        print(json.dumps(run_one(arguments.one, task)))
    elif arguments.check:
        check(arguments.model)
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
