"""The whole platform as real processes, for tests: start it, reach its parts, break them, look at what is left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil
import requests

from platform_site.embedded.ports import free_port
from platform_site.embedded.state import read_state
from platform_site.embedded.tether import tethered
from platform_site.env import ROOT

ENDED = ("succeeded", "failed", "canceled")
READY_SECONDS = 120


T = TypeVar("T")


def wait_for(condition: Callable[[], T], *, seconds: float, what: str) -> T:
    """Return the first true value of ``condition``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)
    return value


@dataclass(kw_only=True)
class Platform:
    """One ``manage.py run`` with a VAR_DIR and ports of its own."""

    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="truetune-platform-")))
    launcher: subprocess.Popen[str] | None = None
    key: str = ""

    @property
    def url(self) -> str:
        """Where the site is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def var_dir(self) -> Path:
        """The platform's VAR_DIR."""
        return self.folder / "var"

    @property
    def environment(self) -> dict[str, str]:
        """The launcher's environment: no URL of the test session's own services is left in it."""
        inherited = {
            name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY")
        }
        return {
            **inherited,
            "DJANGO_SETTINGS_MODULE": "platform_site.settings.dev",
            "VAR_DIR": str(self.var_dir),
            "API_PORT": str(self.port),
            "GPU_ENABLED": "false",
            "OMP_NUM_THREADS": "1",
            "LEASE_SECONDS": "10",
            "RECONCILE_SECONDS": "0.5",
            "RETRY_BASE_SECONDS": "0.2",
            "CANCEL_GRACE_SECONDS": "10",
            **self.settings,
        }

    def launch(self, *arguments: str) -> None:
        """Start ``manage.py run`` without waiting."""
        self.folder.chmod(0o711)  # root runs PostgreSQL as nobody, who must be able to enter
        self.launcher = subprocess.Popen(
            tethered([sys.executable, "manage.py", "run", *arguments], death_signal=signal.SIGTERM),
            cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def start(self) -> float:
        """Start everything; return the seconds until /ready answered 200."""
        started = time.monotonic()
        self.launch()
        wait_for(self._is_ready_or_ended, seconds=READY_SECONDS, what="/ready")
        return time.monotonic() - started

    def make_token(self) -> None:
        """Make the first user's token."""
        self.key = self.manage("create_token", "admin", "--name", f"test {time.monotonic_ns()}", "--key-only").strip()

    def manage(self, *arguments: str) -> str:
        """Run a management command beside the platform and return what it printed."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def stop(self, number: signal.Signals = signal.SIGINT, *, seconds: float = 60) -> int:
        """Ask the launcher to stop; return its exit status."""
        self.launcher.send_signal(number)
        code = self.launcher.wait(seconds)
        self.launcher.stdout.close()
        return code

    def remove(self) -> None:
        """End whatever is left and remove the folder."""
        if self.launcher and self.launcher.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> list[psutil.Process]:
        """Return every process of this platform, wherever it hangs in the tree: launcher, keeper, services, children."""
        marks = (str(self.var_dir), f"--port {self.port}")
        family: dict[int, psutil.Process] = {}
        roots = [self.launcher.pid, read_state(self.var_dir).keeper_pid]
        for process in psutil.process_iter():
            try:
                if process.pid in roots or any(mark in " ".join(process.cmdline()) for mark in marks):
                    family |= {one.pid: one for one in [process, *process.children(recursive=True)]}
            except psutil.Error:
                continue
        return list(family.values())

    def process(self, *words: str) -> psutil.Process:
        """Return the launcher's child whose command line has ``words`` in this order."""
        for child in psutil.Process(self.launcher.pid).children():
            with contextlib.suppress(psutil.ZombieProcess, psutil.NoSuchProcess):  # ended, and not yet missed
                if " ".join(words) in " ".join(child.cmdline()):
                    return child
        raise AssertionError(f"no child with {words}")

    def log(self, name: str) -> str:
        """Return the log of one part."""
        return (self.var_dir / "logs" / f"{name}.log").read_text(errors="replace")

    # The REST API, as a script uses it ---------------------------------------------------------------------------------

    def request(self, method: str, path: str, **options: object) -> requests.Response:
        """Send a request with the token."""
        headers = {"Authorization": f"Token {self.key}", **options.pop("headers", {})}
        return requests.request(method, f"{self.url}/api/v1{path}", headers=headers, timeout=60, **options)

    def get(self, path: str) -> dict:
        """Return the JSON of a GET that must succeed."""
        answer = self.request("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def upload(self, text: str, *, name: str, file_name: str = "rows.jsonl") -> dict:
        """Upload a dataset; the same content again is the same version."""
        answer = self.request("POST", "/datasets/upload", files={"file": (file_name, text.encode())}, data={"name": name})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def start_run(self, pipeline: dict) -> str:
        """Start a run and return its id."""
        answer = self.request("POST", "/jobs", json=pipeline)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def wait_until_ended(self, run_id: str, *, seconds: float = 300) -> dict:
        """Return the job once it has ended."""
        deadline = time.monotonic() + seconds
        while (job := self.get(f"/jobs/{run_id}"))["status"] not in ENDED:
            assert time.monotonic() < deadline, f"waited {seconds} s for the end of {job}"
            time.sleep(0.2)
        return job

    def wait_for_step(self, run_id: str, node: str, step: int, *, seconds: float = 180) -> None:
        """Wait until ``node`` has trained ``step`` steps."""

        def reached() -> bool:
            nodes = {item["name"]: item for item in self.get(f"/jobs/{run_id}/progress")["nodes"]}
            assert nodes[node]["status"] not in ENDED, nodes[node]
            return (nodes[node]["step"] or 0) >= step

        wait_for(reached, seconds=seconds, what=f"step {step} of {node}")

    def history(self, run_id: str) -> list[dict]:
        """Return all stored events, page by page."""
        events: list[dict] = []
        while page := self.get(f"/logs/history/{run_id}?limit=100&after={events[-1]['seq'] if events else 0}")["results"]:
            events += page
        return events

    def json_lines(self, run_id: str, *, after: int = 0) -> Iterator[dict]:
        """Yield the stream as JSON lines."""
        with requests.get(
            f"{self.url}/api/v1/logs/stream/{run_id}",
            params={"after": after}, headers={"Authorization": f"Token {self.key}"}, stream=True, timeout=60,
        ) as answer:  # fmt: skip
            assert answer.status_code == 200, answer.text
            yield from (json.loads(line) for line in answer.iter_lines() if line)

    def _is_ready_or_ended(self) -> bool:
        if self.launcher.poll() is not None:
            raise AssertionError(f"the launcher ended with {self.launcher.returncode}:\n{self.launcher.stdout.read()}")
        try:
            return requests.get(f"{self.url}/ready", timeout=5).status_code == 200
        except (requests.ConnectionError, requests.Timeout):
            return False


def chat_rows(count: int) -> str:
    """Return JSON lines of short alpaca rows that differ from each other."""
    rows = (
        {"instruction": f"Add {number} and {number + 3}.", "input": "", "output": f"The sum is {2 * number + 3}."}
        for number in range(count)
    )
    return "\n".join(json.dumps(row) for row in rows)


def pipeline(dataset: dict, *, training: dict | None = None, full: bool = True) -> dict:
    """Return the main job over ``local:tiny``; without ``full``, up to the training only."""
    evaluation = {"max_new_tokens": 4}
    nodes = {
        "dataset": ("DatasetAgent", {"file_path": f"dataset:{dataset['id']}@{dataset['version']}"}),
        "validation": ("ValidationAgent", {}),
        "preprocessing": ("PreprocessingAgent", {"base_model": "local:tiny", "template": "alpaca"}),
        "training": (
            "TrainingAgent",
            {"target_modules": "all-linear", "lora_r": 4, "precision": "float32", **(training or {})},
        ),
    }
    edges = [("dataset", "validation"), ("validation", "preprocessing"), ("preprocessing", "training")]
    if full:
        nodes |= {
            "evaluation_base": ("EvaluationAgent", evaluation),
            "evaluation": ("EvaluationAgent", {**evaluation, "include_base": False}),
            "comparison": ("ComparisonAgent", {}),
            "export": ("ExportAgent", {"formats": ["adapter", "merged"]}),
        }
        edges += [
            ("preprocessing", "evaluation_base"), ("preprocessing", "evaluation"), ("training", "evaluation"),
            ("evaluation_base", "comparison"), ("evaluation", "comparison"), ("training", "export"), ("comparison", "export"),
        ]  # fmt: skip
    return {
        "nodes": [{"agent_name": name, "agent_class": kind, "config": config} for name, (kind, config) in nodes.items()],
        "edges": [{"from_agent": source, "to_agent": target} for source, target in edges],
    }
