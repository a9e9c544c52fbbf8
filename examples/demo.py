"""Run the main job on a real model, from an empty folder to a tested adapter; what ``make demo`` calls.

Starts the platform (or joins the one that runs), does what ``examples/client.py`` does with a progress bar per node and
the live log above, and prints base against tuned. At a terminal it goes on serving until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import requests
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.client import Client, output, pipeline

ROOT = Path(__file__).resolve().parent.parent
ORDERS = ROOT / "examples" / "data" / "orders.jsonl"
START_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 60
MARKS = {"succeeded": "[green]✓[/]", "failed": "[red]✗[/]", "canceled": "[yellow]■[/]", "skipped": "[dim]–[/]"}

console = Console()


@contextlib.contextmanager
def platform(url: str) -> Iterator[subprocess.Popen[bytes] | None]:
    """Join the platform at ``url`` or start one and stop it at the end."""
    if is_ready(url):
        console.print(f"Using the platform that runs at {url}")
        yield None
        return
    with console.status("Starting PostgreSQL, Valkey, the web server and the workers …"):
        process = subprocess.Popen([sys.executable, "manage.py", "run", "--quiet"], cwd=ROOT, start_new_session=True)
        wait_until_ready(url, process)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=STOP_TIMEOUT_SECONDS)


def is_ready(url: str) -> bool:
    """Say whether a platform answers at ``url`` with all of its parts."""
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"{url}/ready", timeout=5).ok
    return False


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return when the platform is ready.

    Raises: SystemExit: it ended, or was not ready in time.
    """
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not is_ready(url):
        if process.poll() is not None:
            raise SystemExit(process.returncode or 1)
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGINT)
            raise SystemExit(f"The platform was not ready within {START_TIMEOUT_SECONDS} s; see var/logs")
        time.sleep(0.2)


def make_token() -> str:
    """Return a new token of the first user, valid for a day."""
    command = [sys.executable, "manage.py", "create_token", "admin", "--name", f"demo {datetime.now():%Y-%m-%d %H:%M:%S}"]
    done = subprocess.run([*command, "--days", "1", "--key-only"], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def watch(client: Client, run_id: str) -> dict:
    """Show one bar per node and the log above them until the run ends; return the job."""
    columns = (TextColumn("{task.fields[mark]} {task.description:<16}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        follower = threading.Thread(target=print_events, args=(client, run_id, bars.console), daemon=True)
        follower.start()
        tasks: dict[str, TaskID] = {}
        while True:
            progress = client.progress(run_id)
            for node in progress["nodes"]:
                show_node(bars, tasks, node)
            if not follower.is_alive():
                return client.job(run_id)
            follower.join(timeout=0.5)


def show_node(bars: Progress, tasks: dict[str, TaskID], node: dict) -> None:
    """Bring one node's bar up to date."""
    name, status = node["name"], node["status"]
    if name not in tasks:
        tasks[name] = bars.add_task(name, total=1.0, start=False, mark=" ", note="")
    is_running = status in ("running", "canceling")
    if is_running:
        bars.start_task(tasks[name])
    loss = node["metrics"].get("loss")
    steps = f"step {node['step']}/{node['total_steps']}" if node["total_steps"] else status
    note = f"{steps}, loss {loss:.3f}" if isinstance(loss, float) and is_running else steps if is_running else status
    bars.update(tasks[name], completed=node["fraction"], mark=MARKS.get(status, " "), note=note)
    if status in MARKS:
        bars.stop_task(tasks[name])


def print_events(client: Client, run_id: str, out: Console) -> None:
    """Print the run's stream, one line per event."""
    for event in client.events(run_id):
        line = f"[dim]{event['timestamp'][11:19]}[/] [cyan]{event['node'] or 'run':<16}[/] "
        out.print(line, end="")
        text = describe_metric(event) if event["type"] == "metric" else event["message"]
        out.print(text, markup=False, highlight=False, soft_wrap=True)


def describe_metric(event: dict) -> str:
    """Say a metric's numbers with sensible digits and their units."""
    data = event["data"]
    numbers = {"loss": event.get("loss"), "eval loss": data.get("eval_loss"), "learning rate": data.get("learning_rate")}
    parts = [f"{name} {value:.4g}" for name, value in numbers.items() if isinstance(value, float)]
    if isinstance(speed := data.get("tokens_per_second"), float | int):
        parts.append(f"{speed:.0f} tokens/s")
    return f"step {event['step']}: {', '.join(parts)}"


def show_result(client: Client, job: dict, url: str, seconds: float) -> None:
    """Print base against tuned, why each node ran or not, and where everything is."""
    report = client.report(output(job, "comparison", "report"))
    for table in report["tables"][:1]:
        shown = Table(title=table["title"], title_justify="left")
        for column in table["columns"]:
            shown.add_column(column)
        for row in table["rows"]:
            shown.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
        console.print(shown)
    console.print(f"[bold]{report['verdict']}[/]")
    show_nodes(job)
    adapter = client.download(output(job, "export", "adapter"), ROOT / "var" / "demo" / f"adapter-{job['id'][:8]}.zip")
    console.print(f"Adapter: {adapter.relative_to(ROOT)} ({adapter.stat().st_size / 1e6:.1f} MB)")
    console.print(f"Run:     {url}/runs/{job['id']}   ({seconds:.0f} s)")


def show_nodes(job: dict) -> None:
    """Print which nodes were taken from the cache, and why the others ran."""
    shown = Table("node", "took", "why", title="What ran", title_justify="left")
    for node in job["nodes"]:
        took = ""
        if node["started_at"] and node["finished_at"] and not node["cached"]:
            span = datetime.fromisoformat(node["finished_at"]) - datetime.fromisoformat(node["started_at"])
            took = f"{span.total_seconds():.1f} s"
        shown.add_row(node["name"], "cached" if node["cached"] else took, node["cache_note"])
    console.print(shown)


def main() -> None:
    """Run the demo; the exit status is 0 only if the run succeeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="another one shows what the cache must repeat")
    parser.add_argument("--exit", action="store_true", help="do not go on serving at a terminal")
    arguments = parser.parse_args()
    url = f"http://{os.environ.get('API_HOST', '127.0.0.1')}:{os.environ.get('API_PORT', '8000')}"
    with platform(url) as process:
        client = Client(url, make_token())
        dataset = client.upload(ORDERS, name="orders")
        console.print(f"Uploaded {ORDERS.name}: {dataset['rows']} rows, version {dataset['version']}, {dataset['format']}")
        started = time.monotonic()
        run = client.start(pipeline(dataset, name="orders to JSON", learning_rate=arguments.learning_rate))
        job = watch(client, run["id"])
        if job["status"] != "succeeded":
            raise SystemExit(f"The run {job['status']}: {job['error']}. Its log: {url}/runs/{job['id']}")
        show_result(client, job, url, time.monotonic() - started)
        if process and sys.stdin.isatty() and not arguments.exit:
            console.print(f"Serving at {url} until Ctrl-C; a login link is in var/logs/login.txt")
            with contextlib.suppress(KeyboardInterrupt):
                process.wait()


if __name__ == "__main__":
    main()
