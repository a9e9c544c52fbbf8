"""A registry as a finished run leaves it, with real content in the store."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from models_app.models import ModelVersion
from models_app.registration import register_outputs
from models_app.tests.factories import BASE
from pipelines.models import Artifact, NodeRun, Run
from pipelines.tests.factories import ArtifactFactory, NodeRunFactory, RunFactory
from platform_site.common.store import store_path
from platform_site.models import User

VERDICT = "tuned is better: exact match +0.97, 95 % interval [0.93, 1.00]"
PARITY = {"positions": 203, "max_logit_difference": 0.000125, "top1_agreement": 1.0, "kl_nats": 1.5e-9}


@dataclass
class Registry:
    """The versions of one run."""

    run: Run
    base: ModelVersion
    adapter: ModelVersion
    merged: ModelVersion


def make_registry(user: User, tmp_path: Path) -> Registry:
    """Register what preprocessing, training, evaluation, comparison and export leave of the run ``orders``."""
    run = RunFactory(owner=user, name="orders")
    examples = _preprocessed(run)
    training = NodeRunFactory(run=run, node="training", config={"learning_rate": 0.001, "lora_r": 16})
    adapter = _model(
        training,
        tmp_path / "model",
        {"adapter_config.json": b"{}", "adapter_model.safetensors": bytes(range(256)) * 40},
        {"model_kind": "adapter", "final_loss": 0.125},
    )
    adapter.parents.add(examples)
    register_outputs(node_run=training, outputs=[adapter])
    _evaluated(run, adapter)
    export = NodeRunFactory(run=run, node="export", agent="ExportAgent")
    merged = _model(
        export,
        tmp_path / "merged",
        {"config.json": b"{}", "model.safetensors": b"weights"},
        {"model_kind": "merged", "dtype": "float32", "source_sha256": adapter.sha256, "parity": PARITY},
    )
    merged.parents.add(adapter)
    register_outputs(node_run=export, outputs=[merged])
    versions = {version.kind: version for version in ModelVersion.objects.visible_to(user)}
    return Registry(run=run, base=versions["base"], adapter=versions["adapter"], merged=versions["merged"])


def _preprocessed(run: Run) -> Artifact:
    reference = {BASE: {"kind": "base_model", "digest": "d" * 64, "source": {}}}
    node_run = NodeRunFactory(run=run, node="preprocessing", agent="PreprocessingAgent", references=reference)
    dataset = ArtifactFactory(owner=run.owner, kind="dataset", metadata={"rows": 460}, sha256="5e7" + "0" * 61)
    examples = ArtifactFactory(owner=run.owner, node_run=node_run, kind="examples", metadata={"rows": 360, "tokens": 43_210})
    examples.parents.add(dataset)
    return examples


def _model(node_run: NodeRun, folder: Path, files: dict[str, bytes], metadata: dict[str, object]) -> Artifact:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    stored = asdict(store_path(folder))
    metadata = {"base_model": BASE, **metadata}
    return Artifact.objects.create(
        owner=node_run.run.owner, node_run=node_run, port="model", kind="model", name=folder.name, metadata=metadata, **stored
    )


def _evaluated(run: Run, adapter: Artifact) -> None:
    node_run = NodeRunFactory(run=run, node="evaluation", agent="EvaluationAgent")
    subjects = [
        {"model_kind": kind, "model_sha256": sha256, "base_model": BASE, "scores": scores}
        for kind, sha256, scores in (
            ("base", "w" * 64, {"loss": 2.5, "exact_match": 0.0, "rows": 100}),
            ("adapter", adapter.sha256, {"loss": 0.0625, "exact_match": 0.97, "rows": 100}),
        )
    ]
    report = {"report_kind": "evaluation", "examples_sha256": "e" * 64, "subjects": subjects}
    evaluation = ArtifactFactory(owner=run.owner, node_run=node_run, kind="report", metadata=report)
    register_outputs(node_run=node_run, outputs=[evaluation])
    metric = {
        "metric": "exact_match", "rows": 100, "before": 0.0, "after": 0.97, "difference": 0.97, "low": 0.93, "high": 1.0,
        "wins": 97, "ties": 3, "losses": 0, "improvement": 1,
    }  # fmt: skip
    comparison = {
        "baseline": "base", "subject": "tuned", "baseline_sha256": "w" * 64, "subject_sha256": adapter.sha256,
        "verdict": VERDICT, "metrics": [metric],
    }  # fmt: skip
    metadata = json.loads(json.dumps({"report_kind": "comparison", "comparisons": [comparison]}))
    ArtifactFactory(owner=run.owner, kind="report", metadata=metadata)
