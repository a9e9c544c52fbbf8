"""Compare the speed of preparing rows with TRL's on the same rows: template, tokens and labels, rows a processor second.

    python -m bench.prepare_speed --model var/models/bundled/smollm2-135m-instruct --rows 4000

Rows are conversations about the documented functions, classes and modules of the installed Python packages, no text twice:
``short`` has one question and answer each, under one system prompt; ``turns`` 1 to 5 questions with answers of any length;
``long`` asks about the source of a module, a quarter as many. Each contestant prepares them in a fresh process, one processor
thread; models are not loaded and the libraries' imports not counted. They take turns, so that a machine that becomes slower
is so for all. ``ours`` is what the preprocessing agent runs, all checks and the written file included; ``trl_assistant`` is
TRL's ``assistant_only_loss``, the model's template marked up as that needs; ``trl_completion`` is its prompt and completion
(rows of one turn only). TRL keeps the rows in memory, in one process, which is its quickest on one core. ``tokenizer`` is no
contestant but the floor of all that tokenize every text: the library's fastest call, on texts that are rendered already.
Processor time is that of all processes of a contestant, so that a busy machine does not decide; the wall time stands beside
it. The tokens and labels of all contestants are compared. Needs bench/requirements.txt.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random

MIXES = {
    "short": ("ours", "trl_assistant", "trl_completion", "tokenizer"),
    "turns": ("ours", "trl_assistant", "tokenizer"),
    "long": ("ours", "trl_assistant", "trl_completion", "tokenizer"),
}
"""Mixes of rows, and who can prepare them so that the same tokens are trained."""

BASE_MODEL = Path("var/models/bundled/smollm2-135m-instruct")
BLOCK_ROWS = 512
MAX_LENGTH_TOKENS = 2048
DOCUMENT_CHARACTERS = 5000
MAX_SOURCE_BYTES = 200_000
SEED = 7
SYSTEM_PROMPT = (
    "You explain Python libraries to people who program for a living. Say what a thing is for before you say how it is "
    "called. Keep to what its documentation says, name the units of numbers, and say so where you do not know. Answer in a "
    "few plain sentences, without greeting, without praise, and without repeating the question."
)
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


def conversations(count: int, mix: str) -> list[list[Message]]:
    """Return ``count`` conversations of ``mix``, no two with a text in common."""
    random = Random(SEED)
    if mix == "short":
        return [
            [{"role": "system", "content": SYSTEM_PROMPT}, *_exchange(name, text.split("\n\n")[0])]
            for name, text in documented(count)
        ]
    if mix == "turns":
        turns = [random.randint(1, 5) for _ in range(count)]
        pairs = iter(documented(sum(turns)))
        return [[message for _ in range(number) for message in _exchange(*next(pairs))] for number in turns]
    return [_exchange(name, text, source) for name, text, source in islice(modules(), count // 4)]


def _exchange(name: str, answer: str, source: str = "") -> list[Message]:
    question = f"What is {name} for, and how is it used?" if not source else f"What does this module do?\n\n{source}"
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def documented(count: int) -> list[tuple[str, str]]:
    """Return ``count`` names of functions and classes with what is written about them, in a seeded order."""
    found: dict[str, str] = {}
    for path, tree in _sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and len(text := (ast.get_docstring(node) or "").strip()) >= 60:
                found.setdefault(text, f"{path.stem}.{node.name}")
        if len(found) >= count:
            break
    pairs = [(name, text) for text, name in found.items()][:count]
    Random(SEED).shuffle(pairs)
    return pairs


def modules() -> Iterator[tuple[str, str, str]]:
    """Yield name, documentation and source of modules; long ones by their beginning."""
    for path, tree in _sources():
        source, text = path.read_text(encoding="utf-8", errors="ignore"), (ast.get_docstring(tree) or "").strip()
        if len(text) >= 60 and len(source) >= 2000:
            yield path.stem, text, source[:DOCUMENT_CHARACTERS]


def _sources() -> Iterator[tuple[Path, ast.Module]]:
    folders = sysconfig.get_paths()
    paths = sorted({*Path(folders["stdlib"]).glob("*/*.py"), *Path(folders["purelib"]).glob("*/**/*.py")})
    Random(SEED).shuffle(paths)
    for path in paths:
        if "tests" not in path.parts and path.stat().st_size < MAX_SOURCE_BYTES:
            try:
                yield path, ast.parse(path.read_bytes())
            except (SyntaxError, ValueError):  # a package may bring sources for other Pythons
                continue


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


def prepare_tokens_only(model_folder: Path, rows: Sequence[list[Message]], seconds: list[Seconds]) -> Prepared:
    """Tokenize rendered ``rows``, and nothing else; without labels."""
    from celery_workers.modeling.loading import load_tokenizer

    tokenizer = load_tokenizer(model_folder)
    texts = [str(tokenizer.apply_chat_template(row, tokenize=False)) for row in rows]
    backend = tokenizer.backend_tokenizer
    clock = Clock()
    ids = [item.ids for item in backend.encode_batch_fast(texts, add_special_tokens=False)]
    seconds.append(clock.read())
    return [(row, []) for row in ids]


RUNNERS: dict[str, Callable[[Path, Sequence[list[Message]], list[Seconds]], Prepared]] = {
    "ours": prepare_ours,
    "trl_assistant": prepare_trl_assistant,
    "trl_completion": prepare_trl_completion,
    "tokenizer": prepare_tokens_only,
}


def run_one(name: str, model_folder: Path, rows: Sequence[list[Message]]) -> dict[str, object]:
    """Run one contestant in this process; the digest is that of all tokens and labels."""
    seconds: list[Seconds] = []
    prepared = RUNNERS[name](model_folder, rows, seconds)
    ((processor, wall),) = seconds
    return {
        "rows_per_second": len(rows) / processor,
        "wall_rows_per_second": len(rows) / wall,
        "tokens_per_second": sum(len(ids) for ids, _ in prepared) / processor,
        "digest": hashlib.sha256(json.dumps(prepared).encode()).hexdigest()[:12],
    }


def compare(mix: str, arguments: argparse.Namespace) -> None:
    """Print a table of the contestants on one mix of rows."""
    rows = conversations(arguments.rows, mix)
    characters = sum(len(message["content"]) for row in rows for message in row) // len(rows)
    print(f"\n{mix}: {len(rows)} rows of {characters} characters on average; median of {arguments.repeats}")
    print(f"{'':16} {'rows/s':>8} {'(wall)':>8} {'tokens/s':>10} {'ours is':>8} {'(wall)':>8}  tokens and labels")
    measured: dict[str, list[dict[str, object]]] = {name: [] for name in MIXES[mix]}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:  # one file, for the same rows in every process
        json.dump(rows, file)
        file.flush()
        for _ in range(arguments.repeats):
            for name, results in measured.items():
                results.append(_run_apart(name, Path(file.name), arguments))
    for name, results in measured.items():
        speed, wall, tokens = (_median(results, f"{kind}_per_second") for kind in ("rows", "wall_rows", "tokens"))
        ratios = " ".join(
            f"{_median_ratio(measured['ours'], results, kind):7.2f}x" for kind in ("rows_per_second", "wall_rows_per_second")
        )
        print(f"{name:16} {speed:8.0f} {wall:8.0f} {tokens:10.0f} {ratios}  {results[0]['digest']}", flush=True)


def _median(results: Sequence[dict[str, object]], key: str) -> float:
    return statistics.median(float(str(result[key])) for result in results)


def _median_ratio(ours: Sequence[dict[str, object]], theirs: Sequence[dict[str, object]], key: str) -> float:
    """Return the median of the ratios of runs that stood side by side."""
    pairs = zip(ours, theirs, strict=True)
    return statistics.median(float(str(first[key])) / float(str(second[key])) for first, second in pairs)


def _run_apart(name: str, rows: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Return what a contestant measured in a fresh process."""
    command = [sys.executable, "-m", "bench.prepare_speed", "--one", name, "--from", str(rows)]
    command += ["--model", str(arguments.model)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{name} failed: {done.stderr.strip().splitlines()[-1]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def main() -> None:
    """Print the tables, or the numbers of one contestant as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=BASE_MODEL, help=f"folder of the base model (default {BASE_MODEL})")
    parser.add_argument("--rows", type=int, default=4000, help="rows to prepare (default 4000)")
    parser.add_argument("--repeats", type=int, default=3, help="how often each prepares them (default 3)")
    parser.add_argument("--mix", choices=MIXES, action="append", help="a mix of rows, more than once for several (default all)")
    parser.add_argument("--one", choices=RUNNERS, help=argparse.SUPPRESS)
    parser.add_argument("--from", dest="file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        rows = json.loads(arguments.file.read_text(encoding="utf-8"))
        print(json.dumps(run_one(arguments.one, arguments.model, rows)))
        return
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}; load before {load:.1f}")
    for mix in arguments.mix or MIXES:
        compare(mix, arguments)


if __name__ == "__main__":
    main()
