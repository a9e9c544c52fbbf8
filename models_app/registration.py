"""Enter what a node made into the registry: model versions and their scores.

Called by the engine inside the transaction that records the node's success, so a model is registered exactly when its
artifact is. Content that the owner has already under the same kind makes no new version.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from django.db import transaction
from django.db.models import Max

from models_app.models import Evaluation, ModelVersion, RegisteredModel
from pipelines.models import Artifact, NodeRun
from platform_site.models import User

if TYPE_CHECKING:
    from uuid import UUID

logger = logging.getLogger(__name__)

MODEL_REFERENCE = "model:"
UNCOUNTED = ("lora_r", "lora_alpha")  # settings among the metadata's numbers, shown with the config


@transaction.atomic
def register_outputs(*, node_run: NodeRun, outputs: Sequence[Artifact]) -> None:
    """Register every model among ``outputs``, then the scores of every evaluation report.

    Two nodes of one owner that end at once are registered one after the other: version numbers rise without a gap.
    """
    models = [artifact for artifact in outputs if _is_model(artifact)]
    evaluations = [artifact for artifact in outputs if artifact.metadata.get("report_kind") == "evaluation"]
    if not models and not evaluations:
        return
    owner = User.objects.select_for_update(no_key=True).get(pk=node_run.run.owner_id)
    for artifact in _parents_first(models):
        _register_model(owner, node_run, artifact)
    for artifact in evaluations:
        _register_evaluation(owner, node_run, artifact)


def _is_model(artifact: Artifact) -> bool:
    return artifact.kind == Artifact.Kind.MODEL and artifact.metadata.get("model_kind") in ModelVersion.Kind.values


def _parents_first(artifacts: Iterable[Artifact]) -> list[Artifact]:
    order = ModelVersion.Kind.values
    return sorted(artifacts, key=lambda artifact: order.index(artifact.metadata["model_kind"]))


def _register_model(owner: User, node_run: NodeRun, artifact: Artifact) -> ModelVersion:
    kind = artifact.metadata["model_kind"]
    known = ModelVersion.objects.visible_to(owner).with_content(kind=kind, sha256=artifact.sha256).first()
    if known is not None:
        return known
    base_model = str(artifact.metadata.get("base_model", ""))
    return _add_version(
        _named(owner, _model_name(node_run)),
        kind=kind,
        base_model=base_model,
        sha256=artifact.sha256,
        parent=_parent(owner, node_run, artifact, base_model),
        artifact=artifact,
        run=node_run.run,
        node=node_run.node,
        metrics=_numbers(artifact.metadata),
    )


def _register_evaluation(owner: User, node_run: NodeRun, report: Artifact) -> None:
    for subject in report.metadata.get("subjects", []):
        version = _subject_version(owner, node_run, subject)
        if version is None:
            logger.warning("registration.subject_unknown report=%s sha256=%s", report.pk, subject["model_sha256"])
            continue
        Evaluation.objects.get_or_create(
            model_version=version,
            report=report,
            defaults={
                "owner": owner,
                "run": node_run.run,
                "examples_sha256": report.metadata.get("examples_sha256", ""),
                "scores": subject["scores"],
            },
        )


def _subject_version(owner: User, node_run: NodeRun, subject: Mapping[str, str]) -> ModelVersion | None:
    if subject["model_kind"] == ModelVersion.Kind.BASE:
        return _base_version(owner, node_run, subject["base_model"])
    versions = ModelVersion.objects.visible_to(owner)
    return versions.with_content(kind=subject["model_kind"], sha256=subject["model_sha256"]).first()


def _parent(owner: User, node_run: NodeRun, artifact: Artifact, base_model: str) -> ModelVersion | None:
    """Return what the weights were made from: the adapter that was merged, else the base."""
    source_sha256 = artifact.metadata.get("source_sha256")
    if source_sha256 and source_sha256 != artifact.sha256:
        source = ModelVersion.objects.visible_to(owner).filter(sha256=source_sha256).newest_first().first()
        if source is not None:
            return source
    return _base_version(owner, node_run, base_model)


def _base_version(owner: User, node_run: NodeRun, base_model: str) -> ModelVersion | None:
    """Return the version of a base, registering it at first sight and again when its content has changed."""
    if not base_model:
        return None
    if base_model.startswith(MODEL_REFERENCE):
        return ModelVersion.objects.visible_to(owner).filter(pk=base_model.removeprefix(MODEL_REFERENCE)).first()
    digest = _base_digest(node_run.run_id, base_model)
    model = _named(owner, base_model)
    bases = model.versions.filter(kind=ModelVersion.Kind.BASE)
    known = (bases.filter(sha256=digest) if digest else bases).order_by("-number").first()
    return known or _add_version(model, kind=ModelVersion.Kind.BASE, base_model=base_model, sha256=digest)


def _base_digest(run_id: UUID, base_model: str) -> str:
    """Return the digest that the run resolved the reference to; empty where no node's config names it."""
    resolved = NodeRun.objects.filter(run_id=run_id, references__has_key=base_model).values_list("references", flat=True)
    return next((str(references[base_model].get("digest", "")) for references in resolved), "")


def _named(owner: User, name: str) -> RegisteredModel:
    return RegisteredModel.objects.get_or_create(owner=owner, name=name)[0]


def _model_name(node_run: NodeRun) -> str:
    run = node_run.run
    pipeline = run.version.pipeline
    return run.name or run.client_run_id or (pipeline.name if pipeline else "") or f"run-{str(run.id)[:8]}"


def _add_version(model: RegisteredModel, **fields: object) -> ModelVersion:
    newest = model.versions.aggregate(number=Max("number"))["number"] or 0
    return ModelVersion.objects.create(model=model, number=newest + 1, **fields)


def _numbers(metadata: Mapping[str, object]) -> dict[str, int | float]:
    """Return the numbers of a model's metadata, those of its parity under names that say so."""
    parity = cast("Mapping[str, object]", metadata.get("parity") or {})
    named = {**metadata, **{f"parity_{name}": value for name, value in parity.items()}}
    return {
        name: value
        for name, value in named.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in UNCOUNTED
    }
