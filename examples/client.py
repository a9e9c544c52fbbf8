"""The script a user would write: upload rows, tune a model, follow the log, download the adapter.

python examples/client.py --token ft_… examples/data/orders.jsonl
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import requests

BASE_MODEL = "bundled:smollm2-135m-instruct"
ENDED = ("succeeded", "failed", "canceled")


class Client:
    """The few REST calls that a fine-tuning script needs."""

    def __init__(self, url: str, token: str) -> None:
        self.api = f"{url.rstrip('/')}/api/v1"
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Token {token}"

    def _json(self, method: str, path: str, **options: object) -> dict:
        answer = self.session.request(method, f"{self.api}{path}", timeout=120, **options)
        if not answer.ok:
            raise SystemExit(f"{method} {path} answered {answer.status_code}: {answer.text}")
        return answer.json()

    def upload(self, path: Path, *, name: str) -> dict:
        """Upload a file as a dataset version: id, version, format, rows, size_bytes, sha256."""
        with path.open("rb") as file:
            return self._json("POST", "/datasets/upload", files={"file": (path.name, file)}, data={"name": name})

    def start(self, pipeline: dict) -> dict:
        """Start a run of a pipeline in JSON."""
        return self._json("POST", "/jobs", json=pipeline)

    def job(self, run_id: str) -> dict:
        """Return status, error and nodes with their outputs."""
        return self._json("GET", f"/jobs/{run_id}")

    def progress(self, run_id: str) -> dict:
        """Return the fraction done, and the same per node."""
        return self._json("GET", f"/jobs/{run_id}/progress")

    def events(self, run_id: str) -> Iterator[dict]:
        """Yield every event of a run, each once, until the run ends; a lost connection is taken up where it broke."""
        after, is_over = 0, False
        while not is_over:
            try:
                url = f"{self.api}/logs/stream/{run_id}"
                with self.session.get(url, params={"after": after}, stream=True, timeout=60) as answer:
                    answer.raise_for_status()
                    for line in answer.iter_lines():
                        if line:
                            event = json.loads(line)
                            after = event["seq"]
                            is_over = not event["node"] and event["data"].get("status") in ENDED
                            yield event
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                time.sleep(1)

    def history(self, run_id: str, *, after: int = 0) -> list[dict]:
        """Return up to a page of stored events that follow number ``after``."""
        return self._json("GET", f"/logs/history/{run_id}", params={"after": after})["results"]

    def report(self, artifact_id: str) -> dict:
        """Return a report."""
        return self._json("GET", f"/artifacts/{artifact_id}/download")

    def download(self, artifact_id: str, to: Path) -> Path:
        """Save an artifact; a folder comes as a zip."""
        with self.session.get(f"{self.api}/artifacts/{artifact_id}/download", stream=True, timeout=120) as answer:
            answer.raise_for_status()
            to.parent.mkdir(parents=True, exist_ok=True)
            with to.open("wb") as file:
                for chunk in answer.iter_content(1 << 20):
                    file.write(chunk)
        return to


def output(job: dict, node: str, port: str) -> str:
    """Return the id of the artifact that a node gave on a port."""
    (outputs,) = (item["outputs"] for item in job["nodes"] if item["name"] == node)
    return next(item["id"] for item in outputs if item["port"] == port)


def pipeline(dataset: dict, *, name: str, learning_rate: float = 2e-3) -> dict:
    """Return the main job in JSON: from rows to a tested adapter, the base model measured beside the tuned one."""
    evaluation = {"match": "json", "max_new_tokens": 96}
    configs = {
        "dataset": ("DatasetAgent", {"file_path": f"dataset:{dataset['id']}@{dataset['version']}"}),
        "validation": ("ValidationAgent", {}),
        "preprocessing": ("PreprocessingAgent", {"base_model": BASE_MODEL, "dedup": True, "split_column": "split"}),
        "training": (
            "TrainingAgent",
            {
                "learning_rate": learning_rate,
                "target_modules": "all-linear",
                "lora_dropout": 0.0,
                "tokens_per_batch": 512,
            },
        ),
        "evaluation_base": ("EvaluationAgent", evaluation),
        "evaluation": ("EvaluationAgent", {**evaluation, "include_base": False}),
        "comparison": ("ComparisonAgent", {}),
        "export": ("ExportAgent", {"formats": ["adapter", "merged"]}),
    }
    edges = [
        ("dataset", "validation"), ("validation", "preprocessing"), ("preprocessing", "training"),
        ("preprocessing", "evaluation_base"), ("preprocessing", "evaluation"), ("training", "evaluation"),
        ("evaluation_base", "comparison"), ("evaluation", "comparison"), ("training", "export"), ("comparison", "export"),
    ]  # fmt: skip
    return {
        "name": name,
        "nodes": [{"agent_name": node, "agent_class": kind, "config": config} for node, (kind, config) in configs.items()],
        "edges": [{"from_agent": source, "to_agent": target} for source, target in edges],
    }


def main() -> None:
    """Run the main job and say where the adapter is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="rows: CSV, JSON, JSONL or Parquet")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--token", required=True, help="made on the settings page, or by: manage.py create_token USER")
    arguments = parser.parse_args()

    client = Client(arguments.url, arguments.token)
    dataset = client.upload(arguments.file, name=arguments.file.stem)
    run = client.start(pipeline(dataset, name=f"tune on {arguments.file.stem}"))
    for event in client.events(run["id"]):
        print(event["timestamp"], event["node"] or "run", event["message"], event.get("loss", ""))
    job = client.job(run["id"])
    if job["status"] != "succeeded":
        raise SystemExit(f"The run {job['status']}: {job['error']}")
    print("Adapter:", client.download(output(job, "export", "adapter"), Path("adapter.zip")))


if __name__ == "__main__":
    main()
