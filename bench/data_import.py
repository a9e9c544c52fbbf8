"""Measure the import of a JSON Lines file: read, detect, bring to canonical columns and check every row, in one process.

    python -m bench.data_import            # 200 MB
    python -m bench.data_import --full     # 200 MB and 2 GB

Prints MB/s of wall and of processor time on one core, and the peak of memory. Rows are conversations of one to three
exchanges, one in ten with accents and one in fifty repeated. Peers in the same run: Python's json over the lines, which
neither checks nor keeps anything, and the JSON reader of the library datasets, where it is installed, which does not check.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

MEGABYTE = 1_000_000
SMALL_BYTES, FULL_BYTES = 200 * MEGABYTE, 2_000 * MEGABYTE
SAID = (
    "the order of a large pizza with two colas was taken at noon and should be ready when I come by; please write it down as "
    "a list, name each item and its size, say how many there are, then ask whether anything is missing or has to be changed "
    "before it goes to the kitchen because nobody there can read what we say to each other on the telephone"
)
WORDS = SAID.split()
ACCENTS = ("Größe", "déjà vu", "mañana", "żółty", "naïve", "日本語", "Привет")


def write_rows(path: Path, size_bytes: int) -> int:
    """Write rows until the file has ``size_bytes``; return how many."""
    random_numbers = random.Random(0)
    rows = written = 0
    block: list[bytes] = []
    with path.open("wb") as file:
        while written < size_bytes:
            if not block or random_numbers.random() >= 0.02:
                line = json.dumps({"messages": _conversation(random_numbers), "id": rows}, ensure_ascii=False).encode() + b"\n"
                block = [line]
            file.write(block[0])
            written += len(block[0])
            rows += 1
    return rows


def _conversation(random_numbers: random.Random) -> list[dict[str, str]]:
    has_accents = random_numbers.random() < 0.1
    messages = [{"role": "system", "content": "You take orders."}]
    for _ in range(random_numbers.randint(1, 3)):
        messages.append({"role": "user", "content": _text(random_numbers, 30, has_accents=has_accents)})
        messages.append({"role": "assistant", "content": _text(random_numbers, 90, has_accents=has_accents)})
    return messages


def _text(random_numbers: random.Random, words: int, *, has_accents: bool) -> str:
    chosen = random_numbers.choices(WORDS, k=random_numbers.randint(words // 2, words * 3 // 2))
    if has_accents:
        chosen[len(chosen) // 2] = random_numbers.choice(ACCENTS)
    return " ".join(chosen).capitalize() + ".\n"


def run_ours(path: Path) -> str:
    """Import and validate, as an upload does."""
    from celery_workers.data.importing import open_rows
    from celery_workers.data.report_building import ReportBuilder
    from celery_workers.data.rows import SourceFile

    opened = open_rows(SourceFile(path=path, name="rows.jsonl"))
    builder = ReportBuilder(opened.detected)
    for rows, _ in opened:
        builder.add_batch(rows)
    summary = builder.build().summary
    return f"{summary['rows']} rows, {summary['fit_rows']} fit, {summary['duplicate_rows']} repeated"


def run_read_only(path: Path) -> str:
    """Our reading and canonical columns alone, without the checks."""
    from celery_workers.data.importing import open_rows
    from celery_workers.data.rows import SourceFile

    return f"{sum(len(rows) for rows, _ in open_rows(SourceFile(path=path, name='rows.jsonl')))} rows"


def run_json(path: Path) -> str:
    """Python's json, line by line."""
    with path.open("rb") as file:
        return f"{sum(bool(json.loads(line)) for line in file)} rows"


def run_datasets(path: Path) -> str:
    """The JSON reader of the library datasets, writing its Arrow cache."""
    from datasets import load_dataset

    with tempfile.TemporaryDirectory() as cache:
        return f"{load_dataset('json', data_files=str(path), cache_dir=cache, split='train').num_rows} rows"


CONTESTANTS: dict[str, Callable[[Path], str]] = {
    "ours": run_ours,
    "ours_reading_only": run_read_only,
    "python_json": run_json,
    "datasets": run_datasets,
}


def measure(contestant: str, path: Path) -> dict[str, object]:
    """Run a contestant in a fresh process on one core; return its figures, or why there are none."""
    command = [sys.executable, "-m", "bench.data_import", "--only", contestant, "--file", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().rpartition("\n")[2]}
    return json.loads(done.stdout.strip().rpartition("\n")[2])


def run_one(contestant: str, path: Path) -> None:
    """Print the figures of one contestant as JSON."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    started, processor = time.perf_counter(), time.process_time()
    said = CONTESTANTS[contestant](path)
    wall, processor = time.perf_counter() - started, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"wall": wall, "processor": processor, "peak": peak, "said": said}))


def main() -> None:
    """Make the files, run everybody and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="also 2 GB")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--only", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        run_one(arguments.only, arguments.file)
        return
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'file':>8} {'contestant':<18} {'MB/s wall':>10} {'MB/s cpu':>10} {'peak MB':>9}  result")
    for size_bytes in (SMALL_BYTES, FULL_BYTES) if arguments.full else (SMALL_BYTES,):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.jsonl"
            write_rows(path, size_bytes)
            size = path.stat().st_size / MEGABYTE
            for contestant in arguments.contestants:
                figures = measure(contestant, path)
                if "error" in figures:
                    print(f"{size:>5.0f} MB {contestant:<18} {figures['error']}")
                    continue
                speed, cpu_speed = size / float(figures["wall"]), size / float(figures["processor"])
                peak = float(figures["peak"]) / MEGABYTE
                print(
                    f"{size:>5.0f} MB {contestant:<18} {speed:>10.1f} {cpu_speed:>10.1f} {peak:>9.0f}  {figures['said']}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
