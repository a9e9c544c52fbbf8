"""Measure the import and the validation of a JSON Lines file, on one core.

    python -m bench.data_import            # 200 MB
    python -m bench.data_import --full     # 200 MB and 2 GB

Prints MB of the file for each second of processor and of wall time, and the peak of the process's memory. The rows are varied,
about one in twenty with a problem to be found (``bench.import_corpus``). Contestants:

- upload: import and validation in one pass, as an upload does: read, find the format, check every row, build the report.
- import: the dataset agent: read, find the format, write the artifact.
- validation: the validation agent on that artifact: check every row, build the report, write the rows that are fit.
- python_json: Python's json over the lines, which neither checks nor keeps anything.
- datasets: the JSON reader of the library datasets, where it is installed, which does not check.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.import_corpus import write_corpus

MEGABYTE = 1_000_000
SMALL_BYTES, FULL_BYTES = 200 * MEGABYTE, 2_000 * MEGABYTE


def run_upload(path: Path, folder: Path) -> str:  # noqa: ARG001 (as the others)
    """Import and validate in one pass."""
    from celery_workers.data.importing import open_rows
    from celery_workers.data.report_building import ReportBuilder
    from celery_workers.data.rows import SourceFile

    opened = open_rows(SourceFile(path=path, name="rows.jsonl"))
    builder = ReportBuilder(opened.detected)
    for block, _ in opened.blocks():
        builder.add_block(block)
    report = builder.build()
    found = sum(count.rows for count in report.counts)
    return f"{report.rows} rows, {report.fit_rows} fit, {found} problems of {len(report.counts)} codes"


def run_import(path: Path, folder: Path) -> str:
    """Run the dataset agent; the artifact stays in ``folder``."""
    from celery_workers.agents.dataset import DatasetAgent
    from celery_workers.contract.testing import RecordingContext, run_agent

    reference = "s3://datasets/rows.jsonl"
    context = RecordingContext(workdir=folder, references={reference: path})
    outputs = run_agent(DatasetAgent, {"file_path": reference}, context=context)
    (folder / "metadata.json").write_text(json.dumps(dict(outputs.dataset.metadata)))
    return f"{outputs.dataset.metadata['rows']} rows"


def run_validation(path: Path, folder: Path) -> str:  # noqa: ARG001 (as the others)
    """Run the validation agent on what ``run_import`` left in ``folder``."""
    from celery_workers.agents.validation import ValidationAgent
    from celery_workers.contract import Dataset
    from celery_workers.contract.testing import RecordingContext, run_agent

    dataset = Dataset(path=folder / "dataset", metadata=json.loads((folder / "metadata.json").read_text()))
    with tempfile.TemporaryDirectory() as workdir:
        context = RecordingContext(workdir=Path(workdir))
        outputs = run_agent(ValidationAgent, {}, {"dataset": dataset}, context=context)
        return f"{outputs.dataset.metadata['rows']} rows fit"


def run_json(path: Path, folder: Path) -> str:  # noqa: ARG001 (as the others)
    """Python's json, line by line."""

    def is_row(line: bytes) -> bool:
        try:
            return isinstance(json.loads(line), dict)
        except ValueError:
            return False

    with path.open("rb") as file:
        return f"{sum(map(is_row, file))} rows"


def run_datasets(path: Path, folder: Path) -> str:  # noqa: ARG001 (as the others)
    """The JSON reader of the library datasets, writing its Arrow cache."""
    from datasets import load_dataset

    with tempfile.TemporaryDirectory() as cache:
        return f"{load_dataset('json', data_files=str(path), cache_dir=cache, split='train').num_rows} rows"


CONTESTANTS: dict[str, Callable[[Path, Path], str]] = {
    "upload": run_upload,
    "import": run_import,
    "validation": run_validation,
    "python_json": run_json,
    "datasets": run_datasets,
}


def measure(contestant: str, path: Path, folder: Path) -> dict[str, object]:
    """Run a contestant in a fresh process on one core; return its figures, or why there are none."""
    command = [sys.executable, "-m", "bench.data_import", "--only", contestant, "--file", str(path), "--folder", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().rpartition("\n")[2]}
    return json.loads(done.stdout.strip().rpartition("\n")[2])


def run_one(contestant: str, path: Path, folder: Path) -> None:
    """Print the figures of one contestant as JSON. Processor time is that of the whole process, its start included."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    started = time.perf_counter()
    said = CONTESTANTS[contestant](path, folder)
    wall, processor = time.perf_counter() - started, time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"wall": wall, "processor": processor, "peak": peak, "said": said}))


def print_figures(label: str, size_megabytes: float, figures: dict[str, object]) -> None:
    """Print one line of the table."""
    if "error" in figures:
        print(f"{label} {figures['error']}")
        return
    cpu_speed = size_megabytes / float(figures["processor"])
    speed = size_megabytes / float(figures["wall"])
    peak = float(figures["peak"]) / MEGABYTE
    print(f"{label} {cpu_speed:>10.1f} {speed:>10.1f} {peak:>9.0f}  {figures['said']}", flush=True)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


def compare(size_bytes: int, row_format: str, contestants: list[str]) -> None:
    """Write a file and let every contestant read it."""
    with tempfile.TemporaryDirectory() as name:
        path, folder = Path(name) / "rows.jsonl", Path(name) / "artifact"
        folder.mkdir()
        write_corpus(path, size_bytes, row_format=row_format)
        size = path.stat().st_size / MEGABYTE
        for contestant in contestants:
            label = f"{size:>5.0f} MB {row_format:<7} {contestant:<12}"
            print_figures(label, size, measure(contestant, path, folder))


def main() -> None:
    """Make the files, run everybody and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="also 2 GB")
    parser.add_argument("--formats", nargs="+", choices=("chat", "alpaca"), default=["chat", "alpaca"])
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--only", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        run_one(arguments.only, arguments.file, arguments.folder)
        return
    print(f"{platform.platform()}, {_processor()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    print(f"load {os.getloadavg()[0]:.1f}; MB/s cpu: of the file for each second of processor time")
    print(f"{'file':>8} {'format':<7} {'contestant':<12} {'MB/s cpu':>10} {'MB/s wall':>10} {'peak MB':>9}  result")
    for size_bytes in (SMALL_BYTES, FULL_BYTES) if arguments.full else (SMALL_BYTES,):
        for row_format in arguments.formats:
            compare(size_bytes, row_format, arguments.contestants)


if __name__ == "__main__":
    main()
