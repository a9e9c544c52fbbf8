"""Rows that the page tests and the screenshots look at: one true-to-life run in every state, the same at every call."""

from __future__ import annotations

import hashlib
import json
import math
from datetime import timedelta
from pathlib import Path

from django.utils import timezone

from models_app.models import Evaluation, ModelVersion, RegisteredModel
from pipelines.events import EventLine, append
from pipelines.models import Artifact, NodeRun, NodeRunOutput, PipelineVersion, Run, Status
from platform_site.common.store import store_path
from platform_site.models import User

NODES = {
    "dataset": "DatasetAgent",
    "validation": "ValidationAgent",
    "preprocessing": "PreprocessingAgent",
    "training": "TrainingAgent",
    "evaluation": "EvaluationAgent",
    "evaluation_base": "EvaluationAgent",
    "comparison": "ComparisonAgent",
    "export": "ExportAgent",
}
EDGES = [
    ("dataset", "validation"), ("validation", "preprocessing"), ("preprocessing", "training"),
    ("training", "evaluation"), ("preprocessing", "evaluation"), ("preprocessing", "evaluation_base"),
    ("evaluation", "comparison"), ("evaluation_base", "comparison"), ("training", "export"), ("comparison", "export"),
]  # fmt: skip
SECONDS = {"dataset": 1.2, "validation": 2.1, "preprocessing": 6.4, "training": 208, "evaluation": 41, "evaluation_base": 38,
           "comparison": 1.4, "export": 22}  # fmt: skip
BASE = "bundled:smollm2-135m-instruct"
VERDICT = "The tuned model is better: exact match 0.97 against 0.00, difference +0.97 (95 % interval +0.93 to +1.00, 100 rows)."
TOTAL_STEPS = 210


def graph() -> dict[str, list[dict[str, object]]]:
    """Return the demo's pipeline in JSON."""
    nodes = [{"agent_name": name, "agent_class": agent, "config": {}} for name, agent in NODES.items()]
    return {"nodes": nodes, "edges": [{"from_agent": start, "to_agent": end} for start, end in EDGES]}


def version_for(user: User) -> PipelineVersion:
    """Return the demo's graph as a frozen version of ``user``."""
    digest = hashlib.sha256(json.dumps(graph(), sort_keys=True).encode()).hexdigest()
    found = PipelineVersion.objects.filter(owner=user, sha256=digest).first()
    return found or PipelineVersion.objects.create(owner=user, graph=graph(), sha256=digest, name="orders to JSON")


def make_run(user: User, *, name: str, status: str = Status.PENDING, minutes_ago: float = 0, **fields: object) -> Run:
    """Make a run of the demo's graph with a pending attempt of each node."""
    run = Run.objects.create(owner=user, version=version_for(user), name=name, status=status, **fields)
    Run.objects.filter(pk=run.pk).update(created_at=timezone.now() - timedelta(minutes=minutes_ago))
    run.refresh_from_db()
    queues = {"TrainingAgent": "gpu", "EvaluationAgent": "gpu", "ExportAgent": "gpu"}
    NodeRun.objects.bulk_create(
        NodeRun(run=run, node=node, agent=agent, queue=queues.get(agent, "cpu")) for node, agent in NODES.items()
    )
    return run


def end_nodes(run: Run, *, until: str = "", first: str = "dataset", cached: tuple[str, ...] = ()) -> None:
    """Let every node from ``first`` to before ``until`` succeed, one after the other, with its log lines."""
    now = run.started_at
    names = list(NODES)
    for node in names[names.index(first) : names.index(until) if until else None]:
        took = timedelta(seconds=0.1 if node in cached else SECONDS[node])
        note = "Hit: same config, inputs and base model as an earlier run." if node in cached else "Miss: no earlier run."
        NodeRun.objects.filter(run=run, node=node).update(
            status=Status.SUCCEEDED, fraction=1, started_at=now, finished_at=now + took, cached=node in cached, cache_note=note
        )
        say(run, node, f"{node} running", kind="status")
        say(run, node, f"{node} succeeded", kind="status")
        now += took


def say(run: Run, node: str, message: str, *, level: str = "INFO", kind: str = "log", **data: object) -> int:
    """Append one line to the run's stream and return its number."""
    if kind == "status":
        data = {"status": message.rpartition(" ")[2], **data}
    line = EventLine(type=kind, node=node, agent=NODES.get(node, ""), attempt=1, level=level, message=message, data=data)
    return append(run.pk, [line])


def train(run: Run, *, steps: int, status: str = Status.RUNNING) -> None:
    """Let the training node do ``steps`` steps: falling loss with noise from a fixed formula."""
    started = timezone.now() - timedelta(seconds=steps)
    lines, loss = [], 0.0
    for step in range(1, steps + 1):
        loss = 0.21 + 2.1 * math.exp(-step / 40) + 0.12 * math.sin(step * 1.7) * math.exp(-step / 90)
        data = {
            "learning_rate": 1e-3 * min(1, step / 10) * (1 - step / (TOTAL_STEPS + 1)),
            "grad_norm": 0.4 + 0.3 * math.cos(step),
            "tokens_per_second": 521.0 + 14 * math.sin(step / 3),
        }
        lines.append(
            EventLine(
                type="metric",
                node="training",
                agent="TrainingAgent",
                attempt=1,
                level="METRIC",
                step=step,
                epoch=step / 70,
                message="Training step completed",
                loss=loss,
                data=data,
                timestamp=started + timedelta(seconds=step),
            )
        )
    append(run.pk, lines)
    NodeRun.objects.filter(run=run, node="training").update(
        status=status, fraction=steps / TOTAL_STEPS, step=steps, total_steps=TOTAL_STEPS, started_at=started,
        finished_at=None if status == Status.RUNNING else started + timedelta(seconds=steps),
        lease_worker="gpu@worker-1" if status == Status.RUNNING else "", metrics={"loss": loss, **data},
        config={"method": "lora", "rank": 16, "alpha": 32, "learning_rate": 0.001, "epochs": 3, "target_modules": "all-linear"},
        lease_expires_at=timezone.now() + timedelta(seconds=20),
    )  # fmt: skip


def give(run: Run, node: str, port: str, kind: str, path: Path, metadata: dict[str, object]) -> Artifact:
    """Store ``path`` as an output of ``node``."""
    node_run = run.node_runs.get(node=node)
    stored = store_path(path)
    artifact = Artifact.objects.create(
        owner=run.owner, node_run=node_run, port=port, kind=kind, name=path.name, uri=stored.uri, sha256=stored.sha256,
        size_bytes=stored.size_bytes, is_folder=stored.is_folder, manifest=list(stored.manifest), metadata=metadata,
    )  # fmt: skip
    NodeRunOutput.objects.create(node_run=node_run, port=port, artifact=artifact)
    return artifact


def comparison_report() -> dict[str, object]:
    """Return a comparison as ComparisonAgent writes it."""
    return {
        "kind": "comparison",
        "title": "Tuned against base on 100 held-out rows",
        "summary": {"exact_match_base": 0.0, "exact_match_tuned": 0.97, "difference": 0.97, "rows": 100, "took_seconds": 1.4},
        "verdict": VERDICT,
        "tables": [
            {
                "title": "Scores",
                "columns": ["score", "base", "tuned", "difference", "low", "high"],
                "rows": [
                    ["exact match", 0.0, 0.97, 0.97, 0.93, 1.0],
                    ["loss", 1.8421, 0.0312, -1.8109, -1.9015, -1.7244],
                    ["perplexity", 6.3098, 1.0317, -5.2781, -5.9, -4.7],
                ],
            }
        ],
        "figures": [
            {
                "title": "Exact match with 95 % intervals",
                "type": "bar",
                "x_label": "model",
                "y_label": "exact match",
                "series": [
                    {"name": "exact match", "x": ["base", "tuned"], "y": [0.0, 0.97], "low": [0.0, 0.93], "high": [0.03, 1.0]}
                ],
            },
            {
                "title": "Loss by row length",
                "type": "line",
                "x_label": "tokens",
                "y_label": "loss",
                "series": [
                    {"name": "base", "x": [40, 60, 80, 100, 120], "y": [1.6, 1.75, 1.84, 1.93, 2.02]},
                    {"name": "tuned", "x": [40, 60, 80, 100, 120], "y": [0.02, 0.025, 0.031, 0.036, 0.049]},
                ],
            },
        ],
        "samples": [
            {
                "prompt": "two large lattes and a small mocha for Maria, to go",
                "reference": '{"customer":"Maria","takeaway":true,"items":[{"name":"latte","size":"large","quantity":2}]}',
                "base": "Sure! Here is your order: 2 lattes…",
                "tuned": '{"customer":"Maria","takeaway":true,"items":[{"name":"latte","size":"large","quantity":2}]}',
            }
        ],
        "data": {},
    }


def succeeded_run(user: User, folder: Path) -> Run:
    """Make a run that ended well, with a report to read and a model to download."""
    run = make_run(user, name="orders to JSON", status=Status.SUCCEEDED, minutes_ago=34, client_run_id="orders-r16")
    started = timezone.now() - timedelta(minutes=34)
    Run.objects.filter(pk=run.pk).update(started_at=started, finished_at=started + timedelta(seconds=sum(SECONDS.values())))
    run.refresh_from_db()
    say(run, "", "run running", kind="status")
    end_nodes(run, until="training", cached=("dataset", "validation"))
    say(run, "training", "training running", kind="status")
    train(run, steps=TOTAL_STEPS, status=Status.SUCCEEDED)
    say(run, "training", "training succeeded", kind="status")
    end_nodes(run, first="evaluation")
    report = folder / "report.json"
    report.write_text(json.dumps(comparison_report()))
    metadata = {"title": "Tuned against base", "report_kind": "comparison", "verdict": VERDICT, "summary": {}}
    given = give(run, "comparison", "report", "report", report, metadata)
    adapter = folder / "adapter"
    adapter.mkdir(exist_ok=True)
    (adapter / "adapter_model.safetensors").write_bytes(bytes(2_000_000))
    (adapter / "adapter_config.json").write_text("{}")
    model = give(run, "training", "model", "model", adapter, {"model_kind": "adapter", "base_model": BASE})
    registered = RegisteredModel.objects.create(owner=user, name="orders")
    version = ModelVersion.objects.create(
        model=registered, number=1, kind="adapter", base_model=BASE, artifact=model, run=run, node="training",
        metrics={"train_loss": 0.214, "took_seconds": 208.0, "peak_bytes": 3_301_000_000},
    )  # fmt: skip
    Evaluation.objects.create(
        owner=user, model_version=version, report=given, run=run, scores={"exact_match": 0.97, "rows": 100}
    )
    say(run, "", "run succeeded", kind="status")
    return run


def running_run(user: User) -> Run:
    """Make a run in the middle of its training."""
    run = make_run(user, name="orders to JSON, rank 64", status=Status.RUNNING, minutes_ago=2.6, client_run_id="orders-r64")
    Run.objects.filter(pk=run.pk).update(started_at=timezone.now() - timedelta(minutes=2.5))
    run.refresh_from_db()
    say(run, "", "run running", kind="status")
    end_nodes(run, until="training", cached=("dataset", "validation", "preprocessing"))
    say(run, "training", "training running", kind="status")
    say(run, "training", "Loading bundled:smollm2-135m-instruct in bfloat16", parameters=134_515_008)
    say(run, "training", "LoRA on 210 modules, 9.8 M trained parameters", rank=64)
    say(run, "training", "3 rows are longer than 512 tokens and were left out", level="WARNING", rows=3)
    train(run, steps=128)
    return run


def failed_run(user: User) -> Run:
    """Make a run that a broken dataset stopped."""
    message = "41 of 500 rows cannot be trained on; at most 5 % may be broken. First: row 17 has no completion."
    run = make_run(
        user, name="support tickets, first try", status=Status.FAILED, minutes_ago=1500, error_kind="user",
        client_run_id="tickets-1",
        error_code="too_many_broken_rows", error_message=message, error_node="validation",
    )  # fmt: skip
    started = timezone.now() - timedelta(minutes=1500)
    Run.objects.filter(pk=run.pk).update(started_at=started, finished_at=started + timedelta(seconds=3.4))
    run.refresh_from_db()
    end_nodes(run, until="validation")
    NodeRun.objects.filter(run=run, node="validation").update(
        status=Status.FAILED, fraction=0.6, started_at=started, finished_at=started + timedelta(seconds=2),
        error_kind="user", error_code="too_many_broken_rows", error_message=message, error_field="max_broken_fraction",
        error_evidence={"broken_rows": 41, "rows": 500, "first_rows": [17, 22, 31], "limit_percent": 5.0},
    )  # fmt: skip
    NodeRun.objects.filter(run=run, status=Status.PENDING).update(status=Status.SKIPPED)
    say(run, "validation", "Row 17 has no completion", level="WARNING", row=17)
    say(run, "validation", message, level="ERROR", code="too_many_broken_rows")
    say(run, "", "run failed", kind="status")
    return run


def canceled_run(user: User) -> Run:
    """Make a run that its owner stopped in training."""
    run = make_run(user, name="docstrings, 10 epochs", status=Status.CANCELED, minutes_ago=200, client_run_id="docs-long")
    started = timezone.now() - timedelta(minutes=200)
    Run.objects.filter(pk=run.pk).update(started_at=started, finished_at=started + timedelta(seconds=95))
    run.refresh_from_db()
    end_nodes(run, until="training")
    NodeRun.objects.filter(run=run, node="training").update(
        status=Status.CANCELED, fraction=0.3, started_at=started, finished_at=started + timedelta(seconds=95)
    )
    NodeRun.objects.filter(run=run, status=Status.PENDING).update(status=Status.CANCELED)
    say(run, "", "run canceled", kind="status")
    return run


def every_state(user: User, folder: Path) -> dict[str, Run]:
    """Make one run in every state, oldest first."""
    failed, canceled = failed_run(user), canceled_run(user)
    succeeded, running = succeeded_run(user, folder), running_run(user)
    queued = make_run(
        user, name="orders to JSON, no dedup", status=Status.QUEUED, minutes_ago=0.2, client_run_id="orders-no-dedup"
    )
    return {"failed": failed, "canceled": canceled, "succeeded": succeeded, "running": running, "queued": queued}
