"""What a tracking server is told about a node besides its curves: settings, where everything came from, how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipelines.models import NodeRun, Run

MAX_VALUE_CHARACTERS = 5_000
"""MLflow takes 6,000 for a param and 8,000 for a tag."""

IDENTITY_TAG = "truetune.id"
"""Names a node of a run: by it a tracking run is found again if this side forgot that it was made."""


def identity_of(run: Run, node: str) -> str:
    """Return what ``IDENTITY_TAG`` says of a node."""
    return f"{run.pk}/{node}"


def params_of(node_run: NodeRun) -> dict[str, str]:
    """Return the complete config as texts, nested names joined by dots. Empty settings are left out."""
    return {name: value[:MAX_VALUE_CHARACTERS] for name, value in _flat(node_run.config)}


def tags_of(node_run: NodeRun) -> dict[str, str]:
    """Return name, owner and lineage: pipeline version, inputs by digest, and what each reference of the run stood for."""
    run = node_run.run
    tags = {
        IDENTITY_TAG: identity_of(run, node_run.node),
        "mlflow.runName": f"{run} · {node_run.node}",
        "mlflow.user": run.owner.get_username(),
        "mlflow.source.name": node_run.agent,
        "mlflow.source.type": "JOB",
        "truetune.run_id": str(run.pk),
        "truetune.node": node_run.node,
        "truetune.attempt": str(node_run.attempt),
        "truetune.pipeline_version": run.version.sha256,
        **_inputs(node_run.cache_parts),
        **_references(run),
    }
    return {name: value[:MAX_VALUE_CHARACTERS] for name, value in tags.items()}


def ending_tags_of(node_run: NodeRun) -> dict[str, str]:
    """Return the attempt, how it ended, and the digest of each thing that it made."""
    tags = {"truetune.attempt": str(node_run.attempt), "truetune.status": node_run.status}
    if node_run.error_code:
        tags["truetune.error"] = f"{node_run.error_code}: {node_run.error_message}"[:MAX_VALUE_CHARACTERS]
    for output in node_run.outputs.select_related("artifact"):
        tags[f"truetune.output.{output.port}.{output.position}"] = output.artifact.sha256
    return tags


def _inputs(parts: Mapping[str, object]) -> dict[str, str]:
    inputs = parts.get("inputs")
    if not isinstance(inputs, Mapping):
        return {}
    return {f"truetune.input.{port}": ", ".join(map(str, digests)) for port, digests in inputs.items()}


def _references(run: Run) -> dict[str, str]:
    tags = {}
    for node, references in run.node_runs.latest_attempts().order_by("node").values_list("node", "references"):
        for name, resolved in sorted(references.items()):
            tags[f"truetune.reference.{node}"] = f"{name} sha256:{resolved.get('digest', '')}"
    return tags


def _flat(config: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        elif value is not None:
            yield f"{prefix}{name}", str(value)
