"""Measure the main job on this machine, from an empty folder, and print asked against measured.

    .venv/bin/python -m bench.main_job              # about 25 minutes on two cores
    .venv/bin/python -m bench.main_job --only first,cached,web

A platform of its own starts under a temporary folder on free ports; nothing of ``var/`` is touched. The parts:

first    the demo's job on the real bundled model, nothing cached
cached   the same again: every node from the cache
rate     another learning rate: which nodes ran again, and why; time from the request to the first step; the gpu worker is
         killed with ``kill -9`` in mid-training
valkey   a third rate, cut to 40 steps; Valkey is stopped for 20 seconds in mid-training
seed     the pipeline of the REST documentation, its CSV in the ``datasets`` bucket
web      the web process: its memory, and whether torch is in it
start    the platform's second start
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform as machine
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import psutil
import requests
from rich.console import Console
from rich.table import Table

from examples.client import BASE_MODEL, Client, output, pipeline

ROOT = Path(__file__).resolve().parent.parent
ORDERS = ROOT / "examples" / "data" / "orders.jsonl"
VALKEY_DOWN_SECONDS = 20.0
console = Console(highlight=False)


@dataclass
class Platform:
    """A platform of the benchmark's own."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    rows: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where its web server answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make it its own."""
        own = {"VAR_DIR": str(self.folder), "API_PORT": str(self.port), "DATABASE_URL": "", "REDIS_URL": ""}
        return {**os.environ, **own}

    def start(self) -> float:
        """Start everything and return how long it took until /ready, in seconds."""
        started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "run", "--quiet"], cwd=ROOT, env=self.environment, start_new_session=True
        )
        while True:
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{self.url}/ready", timeout=5).ok:
                    return time.monotonic() - started
            if self.process.poll() is not None:
                raise SystemExit("the platform ended while it started")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it as Ctrl-C does."""
        assert self.process
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=90)

    def processes(self, *words: str) -> list[psutil.Process]:
        """Return its processes whose command line has all ``words``."""
        assert self.process
        every = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in every if all(word in " ".join(process.cmdline()) for word in words)]

    def client(self) -> Client:
        """Return a client with a token of the first user."""
        command = [sys.executable, "manage.py", "create_token", "admin", "--name", str(time.time()), "--key-only"]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, check=True, capture_output=True, text=True)
        return Client(self.url, done.stdout.strip())

    def note(self, what: str, asked: str, measured: str) -> None:
        """Keep one row of the table and show it at once."""
        self.rows.append((what, asked, measured))
        console.print(f"  {what}: {measured} (asked: {asked})")


@dataclass(frozen=True)
class Watched:
    """A run that ended, with its events and when each came."""

    job: dict
    events: list[tuple[float, dict]]
    seconds: float


def run_job(client: Client, graph: dict, *, at_step: tuple[int, Callable[[], None]] | None = None) -> Watched:
    """Run a graph to its end; call a function once a training step is reached."""
    started = time.time()
    job = client.start(graph)
    events: list[tuple[float, dict]] = []
    is_armed = at_step is not None
    for event in client.events(job["id"]):
        events.append((time.time() - started, event))
        if is_armed and at_step and event["type"] == "metric" and event["step"] >= at_step[0]:
            is_armed = False
            threading.Thread(target=at_step[1]).start()
    return Watched(client.job(job["id"]), events, time.time() - started)


def node(job: dict, name: str) -> dict:
    """Return one node of a job."""
    return next(item for item in job["nodes"] if item["name"] == name)


def took_seconds(job: dict, name: str) -> float:
    """Return how long a node's last attempt ran."""
    item = node(job, name)
    return (datetime.fromisoformat(item["finished_at"]) - datetime.fromisoformat(item["started_at"])).total_seconds()


def is_gapless(watched: Watched) -> bool:
    """Say whether the events are numbered 1…n."""
    return [event["seq"] for _, event in watched.events] == list(range(1, len(watched.events) + 1))


def measure_first(platform: Platform, client: Client, dataset: dict) -> None:
    """The whole job, nothing cached."""
    watched = run_job(client, pipeline(dataset, name="first"))
    require(watched.job)
    platform.note("main job, first run (without making the environment)", "≤ 15 min", f"{watched.seconds / 60:.1f} min")
    platform.note("of which training", "≤ 5 min", f"{took_seconds(watched.job, 'training') / 60:.1f} min")
    report = client.report(output(watched.job, "comparison", "report"))
    platform.note("held-out exact match", "base ≤ 10 %, tuned ≥ 80 %, interval clear of 0", report["verdict"])
    for name, value in report["summary"].items():
        console.print(f"    {name}: {value}")
    platform.note("events of the stream", "1…n, no gap or repeat", f"{len(watched.events)}, gapless: {is_gapless(watched)}")


def measure_cached(platform: Platform, client: Client, dataset: dict) -> None:
    """The same job again."""
    watched = run_job(client, pipeline(dataset, name="again"))
    require(watched.job)
    cached = sum(item["cached"] for item in watched.job["nodes"])
    platform.note(
        "second run", "≤ 60 s, all cached", f"{watched.seconds:.1f} s, {cached} of {len(watched.job['nodes'])} cached"
    )


def measure_rate(platform: Platform, client: Client, dataset: dict) -> None:
    """Another learning rate, and a worker killed in the middle."""
    killed_at: list[float] = []

    def kill() -> None:
        for process in platform.processes("celery", "-Q gpu") or platform.processes("celery", "gpu"):
            process.kill()
        killed_at.append(time.time())

    graph = pipeline(dataset, name="another rate", learning_rate=1.5e-3)
    started = time.time()
    watched = run_job(client, graph, at_step=(25, kill))
    require(watched.job)
    again = [item["name"] for item in watched.job["nodes"] if not item["cached"]]
    platform.note("changed learning rate runs again", "only what it must", ", ".join(again))
    for item in watched.job["nodes"]:
        console.print(f"    {item['name']}: {item['cache_note']}")
    first_step = next(at for at, event in watched.events if event["type"] == "metric" and event["node"] == "training")
    platform.note("Run accepted → first training step, inputs cached", "≤ 10 s", f"{first_step:.1f} s")
    attempts = node(watched.job, "training")["attempt"]
    after = [at for at, event in watched.events if event["node"] == "training" and event["attempt"] == 2]
    recovered = started + after[0] - killed_at[0] if after else float("nan")
    steps = [event["step"] for _, event in watched.events if event["type"] == "metric" and event["attempt"] == 2]
    platform.note(
        "gpu worker killed with kill -9",
        "succeeds, resumed, lease recovered ≤ 45 s",
        f"{watched.job['status']} in attempt {attempts}, {recovered:.0f} s, went on at step {min(steps, default=0)}; "
        f"gapless: {is_gapless(watched)}",
    )


def measure_valkey(platform: Platform, client: Client, dataset: dict) -> None:
    """Valkey stopped for 20 seconds in the middle of a training."""

    def stop_and_start() -> None:
        (server,) = platform.processes("valkey-server")
        command, folder = server.cmdline(), server.cwd()
        user = server.uids().real
        server.terminate()
        server.wait(timeout=10)
        time.sleep(VALKEY_DOWN_SECONDS)
        options = {"user": user} if os.geteuid() == 0 else {}
        subprocess.Popen(command, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL, **options)

    graph = pipeline(dataset, name="valkey away", learning_rate=1e-3)
    training = next(item for item in graph["nodes"] if item["agent_name"] == "training")
    training["config"]["max_steps"] = 40
    watched = run_job(client, graph, at_step=(5, stop_and_start))
    require(watched.job)
    stored = history(client, watched.job["id"])
    same = [event for _, event in watched.events] == stored
    platform.note(
        f"Valkey stopped for {VALKEY_DOWN_SECONDS:.0f} s in mid-run",
        "succeeds, history complete",
        f"{watched.job['status']}, {len(stored)} events, gapless: {is_gapless(watched)}, stream = history: {same}",
    )


def history(client: Client, run_id: str) -> list[dict]:
    """Read all stored events."""
    events: list[dict] = []
    while True:
        page = client.history(run_id, after=events[-1]["seq"] if events else 0)
        events += page
        if not page:
            return events


def measure_seed(platform: Platform, client: Client, _dataset: dict) -> None:
    """The documentation's own pipeline: alpaca rows in a bucket, posted with a client's run_id."""
    bucket = platform.folder / "storage" / "datasets"
    bucket.mkdir(parents=True, exist_ok=True)
    with (bucket / "training_data.csv").open("w") as file:
        subprocess.run([sys.executable, "-W", "ignore", "-m", "examples.docstrings", "--rows", "300"], stdout=file, check=True)
    source = {"file_path": "s3://datasets/training_data.csv", "format": "csv"}
    preparing = {"base_model": BASE_MODEL, "clean": True, "dedup": True, "template": "alpaca"}
    graph = {
        "run_id": "abc123",
        "nodes": [
            {"agent_name": "dataset", "agent_class": "DatasetAgent", "config": source},
            {"agent_name": "validation", "agent_class": "ValidationAgent", "config": {}},
            {"agent_name": "preprocessing", "agent_class": "PreprocessingAgent", "config": preparing},
        ],
        "edges": [
            {"from_agent": "dataset", "to_agent": "validation"},
            {"from_agent": "validation", "to_agent": "preprocessing"},
        ],
    }
    watched = run_job(client, graph)
    require(watched.job)
    reached = client.job("abc123")["status"]
    platform.note("the documentation's pipeline, CSV in the bucket", "succeeds", f"{reached} in {watched.seconds:.1f} s")


def measure_web(platform: Platform, _client: Client, _dataset: dict) -> None:
    """The web process after all of that."""
    (web,) = platform.processes("uvicorn")
    has_torch = any("libtorch" in region.path for region in web.memory_maps())
    memory = web.memory_info().rss / 1e6
    platform.note("web process", "no torch, ≤ 250 MB", f"torch in its memory map: {has_torch}; {memory:.0f} MB")


def measure_start(platform: Platform, _client: Client, _dataset: dict) -> None:
    """Stop everything and start again."""
    platform.stop()
    platform.note("second start, until /ready", "≤ 5 s", f"{platform.start():.1f} s")


PARTS = {
    "first": measure_first,
    "cached": measure_cached,
    "rate": measure_rate,
    "valkey": measure_valkey,
    "seed": measure_seed,
    "web": measure_web,
    "start": measure_start,
}


def require(job: dict) -> None:
    """Stop the benchmark if a run did not succeed: its figures would mean nothing."""
    if job["status"] != "succeeded":
        raise SystemExit(f"the run {job['status']}: {job['error']}")


@contextlib.contextmanager
def own_platform() -> Iterator[Platform]:
    """Start a platform under a temporary folder and stop it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="truetune-bench-") as folder:
        Path(folder).chmod(0o755)  # the database's user must be able to pass through
        platform = Platform(Path(folder), port)
        platform.note("first start, until /ready", "–", f"{platform.start():.1f} s")
        try:
            yield platform
        finally:
            platform.stop()


def main() -> None:
    """Measure the chosen parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts by comma (default: all)")
    chosen = parser.parse_args().only.split(",")
    if unknown := set(chosen) - set(PARTS):
        raise SystemExit(f"--only takes {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    with own_platform() as platform:
        client = platform.client()
        dataset = client.upload(ORDERS, name="orders")
        for part in chosen:
            console.print(f"[bold]{part}[/]")
            PARTS[part](platform, client, dataset)
    memory = psutil.virtual_memory().total / 2**30
    processor = machine.processor() or machine.machine()
    title = f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {machine.python_version()}"
    table = Table("what", "asked", "measured", title=title, title_justify="left")
    for row in platform.rows:
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
