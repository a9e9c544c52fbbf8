"""Set model versions side by side: what they were made with, where that differs, and what was measured on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models_app.models import Evaluation, ModelVersion
from models_app.services import comparisons_of, evaluations_of

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from platform_site.models import User


@dataclass(frozen=True, kw_only=True)
class SettingRow:
    """One setting of the nodes that made the versions; None where a version's node has no such setting."""

    name: str
    values: list[object]


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """The newest scores of each version on one set of examples; None where it was not measured on them."""

    examples_sha256: str
    evaluations: list[Evaluation | None]


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """Versions in the order asked for; every list of values is in that order."""

    versions: list[ModelVersion]
    differing: list[SettingRow]
    equal: int
    scores: list[ScoreRow]
    comparisons: list[dict[str, object]]


def side_by_side(versions: Sequence[ModelVersion], user: User | AnonymousUser) -> SideBySide:
    """Compare ``versions``, which ``user`` may see, from what is recorded; nothing is measured anew.

    ``comparisons`` are those of reports whose two models are among them: they have intervals, which scores alone lack.
    """
    rows = _settings(versions)
    differing = [row for row in rows if any(value != row.values[0] for value in row.values)]
    compared = {
        (item["report"], item["subject_sha256"], item["baseline_sha256"]): item
        for version in versions
        for item in comparisons_of(version, user)
        if _is_baseline_among(versions, item, subject=version)
    }
    return SideBySide(
        versions=list(versions),
        differing=differing,
        equal=len(rows) - len(differing),
        scores=_scores(versions, user),
        comparisons=list(compared.values()),
    )


def _is_baseline_among(versions: Sequence[ModelVersion], comparison: Mapping[str, object], *, subject: ModelVersion) -> bool:
    """Whether the comparison's baseline is one of ``versions``. Reports know a base by its weights, the registry by its
    reference: there the subject's own base counts."""
    if comparison["baseline_sha256"] in {version.sha256 for version in versions}:
        return True
    bases = {version.base_model for version in versions if version.kind == ModelVersion.Kind.BASE}
    return comparison["baseline"] == "base" and subject.base_model in bases


def _settings(versions: Sequence[ModelVersion]) -> list[SettingRow]:
    configs = [
        version.artifact.node_run.config if version.artifact is not None and version.artifact.node_run is not None else {}
        for version in versions
    ]
    names = dict.fromkeys(name for config in configs for name in config)
    rows = [SettingRow(name=name, values=[config.get(name) for config in configs]) for name in names]
    return [SettingRow(name="kind", values=[version.kind for version in versions]), *rows]


def _scores(versions: Sequence[ModelVersion], user: User | AnonymousUser) -> list[ScoreRow]:
    newest: dict[str, dict[object, Evaluation]] = {}
    for version in versions:
        for evaluation in evaluations_of(version, user):
            newest.setdefault(evaluation.examples_sha256, {}).setdefault(version.pk, evaluation)
    rows = [
        ScoreRow(examples_sha256=sha256, evaluations=[found.get(version.pk) for version in versions])
        for sha256, found in newest.items()
    ]
    return sorted(rows, key=lambda row: row.evaluations.count(None))  # those that say something of all come first
