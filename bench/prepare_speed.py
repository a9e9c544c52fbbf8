"""Compare the speed of preparing rows with TRL's on the same rows: template, tokens and labels, rows a processor second.

    python -m bench.prepare_speed --model var/models/bundled/smollm2-135m-instruct --rows 4000

Rows are conversations of one to three turns about the docstrings of Python's own library. Each contestant prepares them in a
fresh process, one processor thread; models are not loaded and the libraries' imports not counted. ``ours`` is what the
preprocessing agent runs, all checks and the written file included; ``trl_assistant`` is TRL's ``assistant_only_loss``, with
the model's template marked up as that needs; ``trl_completion`` is its prompt and completion (rows of one turn only).
Processor time is that of all processes of a contestant, so that a busy machine does not decide; the wall time stands beside
it. The tokens and labels of all contestants are compared. Needs bench/requirements.txt.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

CONTESTANTS = ("ours", "trl_assistant", "trl_completion")
BASE_MODEL = Path("var/models/bundled/smollm2-135m-instruct")
BLOCK_ROWS = 512
MAX_LENGTH_TOKENS = 2048
_MARKED = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ '<|im_start|>assistant\n' }}{% generation %}"
    "{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}{% else %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The template of the bundled model with its answers marked."""

Message = dict[str, str]
Prepared = list[tuple[list[int], list[int]]]
Seconds = tuple[float, float]
"""Processor time and wall time."""


class Clock:
    """Measures from its making."""

    def __init__(self) -> None:
        self._began = self._now()

    def read(self) -> Seconds:
        """Return what has passed; children count when they have ended."""
        processor, wall = self._now()
        return processor - self._began[0], wall - self._began[1]

    def _now(self) -> Seconds:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system, time.perf_counter()


def conversations(count: int, *, most_turns: int) -> list[list[Message]]:
    """Return ``count`` conversations of 1 to ``most_turns`` questions and answers, no two alike."""
    from examples.docstrings import docstring_rows

    pairs = [(row["instruction"], row["output"]) for row in docstring_rows()]
    made = []
    for number in range(count):
        turns = [pairs[(number * 7 + turn * 31) % len(pairs)] for turn in range(number % most_turns + 1)]
        questions = [f"{question} ({number})" for question, _ in turns]
        made.append(
            [
                message
                for question, (_, answer) in zip(questions, turns, strict=True)
                for message in ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
            ]
        )
    return made


def prepare_ours(model_folder: Path, rows: Sequence[list[Message]], seconds: list[Seconds]) -> Prepared:
    """Prepare ``rows`` as the preprocessing agent does."""
    from celery_workers.data.canonical import CanonicalRow
    from celery_workers.data.example_making import ExampleMaker, OverLong
    from celery_workers.data.examples_file import ExamplesWriter, open_examples
    from celery_workers.data.row_formats import RowFormat
    from celery_workers.data.templates import choose_template
    from celery_workers.data.tokenization import Encoder
    from celery_workers.modeling.loading import load_tokenizer

    tokenizer = load_tokenizer(model_folder)
    canonical = [CanonicalRow(number, {"messages": row}) for number, row in enumerate(rows, start=1)]
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        template = choose_template("model", RowFormat.CHAT, tokenizer)
        encoder = Encoder(tokenizer, model_folder, adds_special_tokens=template.adds_special_tokens)
        maker = ExampleMaker(
            tokenizer=tokenizer,
            template=template,
            encoder=encoder,
            row_format=RowFormat.CHAT,
            max_length_tokens=MAX_LENGTH_TOKENS,
            over_long=OverLong.TRUNCATE,
        )
        train = Path(folder) / "train"
        with ExamplesWriter(train) as writer, ExamplesWriter(Path(folder) / "eval") as held_out:
            for start in range(0, len(canonical), BLOCK_ROWS):
                block = canonical[start : start + BLOCK_ROWS]
                maker.make(block, [False] * len(block), train=writer, held_out=held_out)
        del template, maker  # ends the process of the chat template, whose time counts then
        seconds.append(clock.read())
        return [(ids.tolist(), labels.tolist()) for ids, labels, _ in open_examples(train)]


def prepare_trl_assistant(model_folder: Path, rows: Sequence[list[Message]], seconds: list[Seconds]) -> Prepared:
    """Prepare ``rows`` as SFTTrainer does for ``assistant_only_loss``."""
    return _prepare_trl(model_folder, [{"messages": row} for row in rows], seconds, assistant_only_loss=True)


def prepare_trl_completion(model_folder: Path, rows: Sequence[list[Message]], seconds: list[Seconds]) -> Prepared:
    """Prepare ``rows`` as SFTTrainer does for prompts and completions: the last answer is trained."""
    split = [{"prompt": row[:-1], "completion": row[-1:]} for row in rows]
    return _prepare_trl(model_folder, split, seconds, completion_only_loss=True)


def _prepare_trl(
    model_folder: Path, rows: list[dict[str, list[Message]]], seconds: list[Seconds], **options: object
) -> Prepared:
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    if "assistant_only_loss" in options:
        tokenizer.chat_template = _MARKED
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes))
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder, max_length=MAX_LENGTH_TOKENS, report_to="none", use_cpu=True, bf16=False, **options
        )
        trainer = SFTTrainer(model, args=arguments, train_dataset=Dataset.from_list(rows[:1]), processing_class=tokenizer)
        dataset = Dataset.from_list(rows)
        clock = Clock()
        prepared = trainer._prepare_dataset(dataset, tokenizer, arguments, False, None, "train")
        seconds.append(clock.read())
    return [(row["input_ids"], row["labels"]) for row in prepared]


RUNNERS: dict[str, Callable[[Path, Sequence[list[Message]], list[float]], Prepared]] = {
    "ours": prepare_ours,
    "trl_assistant": prepare_trl_assistant,
    "trl_completion": prepare_trl_completion,
}


def run_one(name: str, model_folder: Path, rows: Sequence[list[Message]], repeats: int) -> dict[str, object]:
    """Run one contestant in this process; the digest is that of all tokens and labels."""
    seconds: list[Seconds] = []
    for _ in range(repeats):
        prepared = RUNNERS[name](model_folder, rows, seconds)
    processor, wall = (statistics.median(column) for column in zip(*seconds, strict=True))
    return {
        "rows_per_second": len(rows) / processor,
        "wall_rows_per_second": len(rows) / wall,
        "tokens_per_second": sum(len(ids) for ids, _ in prepared) / processor,
        "digest": hashlib.sha256(json.dumps(prepared).encode()).hexdigest()[:12],
    }


def compare(names: Sequence[str], arguments: argparse.Namespace, *, most_turns: int) -> None:
    """Print a table of the contestants."""
    turns = "one turn" if most_turns == 1 else f"1 to {most_turns} turns"
    print(f"\n{arguments.rows} rows of {turns}, median of {arguments.repeats}")
    print(f"{'':16} {'rows/s':>8} {'(wall)':>8} {'tokens/s':>10} {'ours is':>8}  tokens and labels")
    first: float | None = None
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:  # one file, for the same rows in every process
        json.dump(conversations(arguments.rows, most_turns=most_turns), file)
        file.flush()
        for name in names:
            made = _run_apart(name, Path(file.name), arguments)
            if made is None:
                continue
            speed = float(str(made["rows_per_second"]))
            first = first or speed
            shown = f"{speed:8.0f} {made['wall_rows_per_second']:8.0f} {made['tokens_per_second']:10.0f}"
            print(f"{name:16} {shown} {first / speed:7.1f}x  {made['digest']}", flush=True)


def _run_apart(name: str, rows: Path, arguments: argparse.Namespace) -> dict[str, object] | None:
    """Return what a contestant measured in a fresh process; prints why where it failed."""
    command = [sys.executable, "-m", "bench.prepare_speed", "--one", name, "--from", str(rows)]
    command += ["--model", str(arguments.model), "--repeats", str(arguments.repeats)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        print(f"{name:16} failed: {done.stderr.strip().splitlines()[-1]}")
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Print the tables, or the numbers of one contestant as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=BASE_MODEL, help=f"folder of the base model (default {BASE_MODEL})")
    parser.add_argument("--rows", type=int, default=4000, help="rows to prepare (default 4000)")
    parser.add_argument("--repeats", type=int, default=3, help="how often each prepares them (default 3)")
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--from", dest="file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        rows = json.loads(arguments.file.read_text(encoding="utf-8"))
        print(json.dumps(run_one(arguments.one, arguments.model, rows, arguments.repeats)))
        return
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}; load before {load:.1f}")
    compare(CONTESTANTS, arguments, most_turns=1)
    compare(CONTESTANTS[:2], arguments, most_turns=3)


if __name__ == "__main__":
    main()
