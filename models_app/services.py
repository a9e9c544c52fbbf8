"""What spans several rows of the registry: which file a format stands for, and what was measured of a version."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from django.db.models import Q

from models_app.models import Evaluation, ModelVersion
from pipelines.models import Artifact
from platform_site.common.errors import DomainError
from platform_site.common.store import ManifestEntry

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from platform_site.models import User


class NotThere(DomainError):
    """The model exists, but not in this form; the message says how to get it."""

    code: ClassVar[str] = "not_found"
    status: ClassVar[int] = 404


@dataclass(kw_only=True)
class StoredEntry:
    """One file of a stored folder, as it is sent."""

    uri: str
    sha256: str
    size_bytes: int
    is_folder: bool = False
    manifest: list[ManifestEntry] = field(default_factory=list)


def find_export(version: ModelVersion, format: str) -> tuple[ModelVersion, Artifact]:
    """Return what holds ``version`` in ``format``: the version itself, what it was made from, or what was made from it.

    Raises: NotThere: it was never exported so, or is a base that the platform does not keep.
    """
    if version.kind in (format, ModelVersion.Kind.BASE):
        found: ModelVersion | None = version
    elif version.parent is not None and version.parent.kind == format:
        found = version.parent
    else:
        found = version.derived.filter(kind=format).select_related("artifact", "model").newest_first().first()
    if found is None or found.artifact is None:
        raise NotThere(_how_to_get(version, format))
    return found, found.artifact


def available_formats(version: ModelVersion) -> list[str]:
    """Return the formats that ``find_export`` finds, in the order of the kinds."""
    if version.kind == ModelVersion.Kind.BASE:
        return [] if version.artifact_id is None else [version.kind]
    kinds = set(version.derived.exclude(artifact=None).values_list("kind", flat=True))
    kinds |= {item.kind for item in (version, version.parent) if item is not None and item.artifact_id is not None}
    return [kind for kind in ModelVersion.Kind.values if kind in kinds]


def find_file(artifact: Artifact, path: str) -> StoredEntry:
    """Return the file at ``path`` of a folder's manifest.

    Raises: NotThere: the folder has no such file; the message lists those that it has.
    """
    for entry in artifact.manifest:
        if entry["path"] == path:
            return StoredEntry(uri=f"{artifact.uri}/{path}", sha256=entry["sha256"], size_bytes=entry["size_bytes"])
    names = ", ".join(entry["path"] for entry in artifact.manifest)
    raise NotThere(f"there is no file {path!r} in it; there is: {names}")


def download_name(version: ModelVersion) -> str:
    """Return a file name without an ending that says which version this is."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", version.model.name).strip("-.") or "model"
    return f"{name}-v{version.number}-{version.kind}"


def evaluations_of(version: ModelVersion, user: User | AnonymousUser) -> list[Evaluation]:
    """Return the scores of these weights, newest first; those of a merged model include its adapter's."""
    measured = Q(model_version=version)
    if version.kind == ModelVersion.Kind.MERGED and version.parent_id is not None:
        measured |= Q(model_version=version.parent_id, model_version__kind=ModelVersion.Kind.ADAPTER)
    found = Evaluation.objects.visible_to(user).filter(measured)
    return list(found.select_related("model_version", "report").newest_first())


def base_evaluation(evaluation: Evaluation) -> Evaluation | None:
    """Return the newest scores of the base in the same run and on the same examples."""
    return (
        Evaluation.objects.filter(
            owner=evaluation.owner_id,
            run=evaluation.run_id,
            examples_sha256=evaluation.examples_sha256,
            model_version__kind=ModelVersion.Kind.BASE,
        )
        .exclude(pk=evaluation.pk)
        .newest_first()
        .first()
    )


def comparisons_of(version: ModelVersion, user: User | AnonymousUser) -> list[dict[str, object]]:
    """Return what comparison reports say of these weights, or of the adapter in them, newest first."""
    digests = {item.sha256 for item in (version, version.parent) if item is not None and item.kind != ModelVersion.Kind.BASE}
    told = Q()
    for digest in digests - {""}:
        told |= Q(metadata__comparisons__contains=[{"subject_sha256": digest}])
    if not told:
        return []
    reports = Artifact.objects.visible_to(user).filter(told, kind=Artifact.Kind.REPORT, metadata__report_kind="comparison")
    return [
        {"report": report.pk, "created_at": report.created_at, **comparison}
        for report in reports.newest_first()
        for comparison in report.metadata["comparisons"]
        if comparison["subject_sha256"] in digests
    ]


def sources_of(version: ModelVersion) -> list[Artifact]:
    """Return the datasets and examples that the weights come from, nearest first: the artifact's lineage upwards."""
    if version.artifact is None:
        return []
    seen: dict[object, Artifact] = {}
    level = [version.artifact]
    while level:
        parents = Artifact.objects.filter(children__in=level, owner=version.artifact.owner_id).exclude(pk__in=seen).distinct()
        level = list(parents.order_by("created_at"))
        seen.update((artifact.pk, artifact) for artifact in level)
    return [artifact for artifact in seen.values() if artifact.kind in (Artifact.Kind.DATASET, Artifact.Kind.EXAMPLES)]


def _how_to_get(version: ModelVersion, format: str) -> str:
    if version.kind == ModelVersion.Kind.BASE:
        return f"{version} is a base: the platform keeps its reference, {version.base_model}, not a file to download"
    formats = ", ".join(available_formats(version)) or "nothing"
    return f"{version} was not exported as {format}; there is {formats}. Run an ExportAgent with formats: [{format}]"
