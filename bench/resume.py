"""Kill a training at random points, again and again, and compare its weights bit for bit with one that was never killed.

    python -m bench.resume --kills 20 --objective sft

Points: a step done, a checkpoint half written, a checkpoint half handed over, the midst of an evaluation, an epoch's last
step, and any moment at all. The model is a folder of safetensors; without one, two random layers are made on the spot.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from celery_workers.training.config import TrainingConfig
from celery_workers.training.tests.conftest import write_examples, write_kto, write_pairs
from celery_workers.training.tests.killing import POINTS, newest, prepare, result_of, run_child, run_child_for

MOMENT = "moment"
ROWS, EVAL_ROWS, EPOCHS = 24, 6, 12
WRITERS = {"dpo": write_pairs, "orpo": write_pairs, "kto": write_kto}


def make_training(folder: Path, *, base_folder: Path, objective: str) -> TrainingConfig:
    """Write the examples of both trainings, and return their settings."""
    for name, rows, seed in (("examples", ROWS, 0), ("eval", EVAL_ROWS, 1)):
        if objective in ("dpo", "orpo"):
            write_pairs(folder / name, pairs=rows, seed=seed, base_folder=base_folder)
        elif objective == "kto":
            write_kto(folder / name, rows=rows, seed=seed, base_folder=base_folder)
        else:
            lengths = np.random.default_rng(seed).integers(4, 40, rows).tolist()
            write_examples(folder / name, lengths=lengths, seed=seed, base_folder=base_folder)
    return TrainingConfig(
        objective=objective,
        epochs=EPOCHS,
        batch_size=2,
        gradient_accumulation=2,
        learning_rate=2e-3,
        lora_dropout=0.1,
        target_modules="all-linear",
        precision="float32",
        checkpoint_every_steps=2,
        checkpoint_every_seconds=86_400,
        load_best_at_end=True,
    )


def kill_once(folder: Path, chance: random.Random) -> str:
    """Run one child that is killed, and return where it was."""
    point = chance.choice([*POINTS, MOMENT])
    before = newest(folder)
    if point == MOMENT:
        seconds = round(chance.uniform(0.0, 4.0), 2)
        status, where = run_child_for(folder, seconds), f"{point} {seconds} s"
    else:
        count = chance.randint(1, {"step": 4, "save": 16, "evaluation": 4}.get(point, 1))
        status, where = run_child(folder, kill=f"{point}:{count}"), f"{point} {count}"
    after = newest(folder)
    steps = [int(path.name) if path else 0 for path in (before, after)]
    ending = "killed" if status == -signal.SIGKILL else f"ended with {status}"
    return f"{where:14} {ending:8} checkpoint {steps[0]:3} -> {steps[1]:3}"


def main() -> None:
    """Print a line for each kill, and whether the weights are the same; the exit status is 1 if they are not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how often the training is killed (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the points (default 0)")
    parser.add_argument("--model", type=Path, help="folder of the base model (default: two random layers)")
    parser.add_argument("--objective", default="sft", choices=["sft", "pretraining", "dpo", "orpo", "kto"])
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}; objective {arguments.objective}")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base_folder = arguments.model or make_tiny_model(folder / "model")
        config = make_training(folder, base_folder=base_folder, objective=arguments.objective)
        for side in ("unbroken", "killed"):
            prepare(
                folder / side,
                base_folder=base_folder,
                examples=folder / "examples",
                eval_examples=folder / "eval",
                config=config,
            )
        run_child(folder / "unbroken")
        chance = random.Random(arguments.seed)
        for number in range(1, arguments.kills + 1):
            print(f"{number:3} {kill_once(folder / 'killed', chance)}", flush=True)
        run_child(folder / "killed")
        weights, history = result_of(folder / "killed")
        expected_weights, expected_history = result_of(folder / "unbroken")
        differing = [key for key in expected_history if json.dumps(history[key]) != json.dumps(expected_history[key])]
    is_same = weights == expected_weights
    print(f"weights, {len(weights)} bytes: {'the same bits' if is_same else 'DIFFERENT'}")
    print(f"losses, norms and metrics of every step: {'the same' if not differing else 'DIFFERENT: ' + ', '.join(differing)}")
    print(f"{time.perf_counter() - started:.0f} s")
    sys.exit(0 if is_same and not differing else 1)


def make_tiny_model(folder: Path) -> Path:
    """Write two random Llama layers and a tokenizer of bytes."""
    from celery_workers.conftest import write_tiny_model

    write_tiny_model(folder)
    return folder


if __name__ == "__main__":
    main()
