"""Turn what an agent made into stored content, and stored content into artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from celery_workers.contract.agent import AgentSpec
from celery_workers.contract.errors import BugError
from celery_workers.contract.messages import PortValue, Result
from pipelines.engine.jsonb import storable_object
from pipelines.models import Artifact, NodeRun, NodeRunOutput
from platform_site.common import store
from platform_site.common.store import StoredObject


@dataclass(frozen=True, kw_only=True)
class StoredOutput:
    """One output in the store, not yet recorded."""

    port: str
    position: int
    value: PortValue
    stored: StoredObject


def store_outputs(result: Result, spec: AgentSpec) -> list[StoredOutput]:
    """Check the outputs against the agent's ports, and put each into the store by its content.

    Raises: BugError: a port is unknown, missing, of another kind or filled twice. StorageFull, Unavailable, InvalidFile.
    """
    _check(result, spec)
    return [
        StoredOutput(port=port, position=position, value=value, stored=store.store_path(Path(value.path)))
        for port, values in sorted(result.outputs.items())
        for position, value in enumerate(values)
    ]


def record_outputs(
    node_run: NodeRun, outputs: Sequence[StoredOutput], *, inputs: Mapping[str, Sequence[Artifact]]
) -> list[Artifact]:
    """Write the artifacts with their lineage. Belongs into the transaction that marks the node run."""
    parents = {artifact.pk: artifact for artifacts in inputs.values() for artifact in artifacts}
    made = []
    for output in outputs:
        artifact = Artifact.objects.create(
            owner=node_run.run.owner,
            node_run=node_run,
            port=output.port,
            kind=output.value.kind,
            name=Path(output.value.path).name[:255],
            uri=output.stored.uri,
            sha256=output.stored.sha256,
            size_bytes=output.stored.size_bytes,
            is_folder=output.stored.is_folder,
            manifest=output.stored.manifest,
            metadata=storable_object(output.value.metadata),
        )
        artifact.parents.set(parents.values())
        NodeRunOutput.objects.create(node_run=node_run, port=output.port, position=output.position, artifact=artifact)
        made.append(artifact)
    return made


def _check(result: Result, spec: AgentSpec) -> None:
    for port, values in result.outputs.items():
        declared = spec.output(port)
        if declared is None:
            raise BugError(f"{spec.class_name} has no output {port!r}", code="invalid_output")
        if any(value.kind != declared.kind for value in values) or (len(values) > 1 and not declared.takes_many):
            raise BugError(f"{spec.class_name}.{port} must be {declared.kind}, as often as it declares", code="invalid_output")
    missing = [port.name for port in spec.outputs if port.is_required and not result.outputs.get(port.name)]
    if missing:
        raise BugError(f"{spec.class_name} gave no {missing[0]!r}", code="invalid_output")
