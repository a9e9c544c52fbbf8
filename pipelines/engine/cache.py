"""Unchanged work is not repeated, and repeated work says what changed.

The key covers everything an agent's output depends on: agent and version, the complete config with each reference
replaced by the digest of what it named, the inputs' digests by port, the digests of the base models that the inputs were
made for, and the seed. Node and run names are not in it, so equal work is shared between nodes and runs of one owner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

from django.db.models import Exists, OuterRef

from celery_workers.contract.agent import AgentSpec
from pipelines.graph import canonical_json
from pipelines.models import Artifact, NodeRun, NodeRunOutput, Status
from pipelines.references import Resolution, find_references
from platform_site.models import User

JsonObject = dict[str, object]
Inputs = Mapping[str, Sequence[Artifact]]

CANDIDATES = 50
NEVER_RAN = "never ran before"
IGNORED = "cache ignored on request"


@dataclass(frozen=True, kw_only=True)
class CacheKey:
    """The key and what it was made of."""

    sha256: str
    parts: JsonObject


def seed_of(spec: AgentSpec, config: Mapping[str, object]) -> int:
    """Return the seed of a node, 0 to 2**32 - 1: the config's own, else one that depends on the agent alone.

    So two nodes of one agent differ only in what their configs say, and a change elsewhere in the graph moves nothing.
    """
    own = config.get("seed")
    if isinstance(own, int) and not isinstance(own, bool):
        return own % 2**32
    return int.from_bytes(hashlib.sha256(spec.class_name.encode()).digest()[:4], "big")


def cache_key(
    spec: AgentSpec,
    config: Mapping[str, object],
    *,
    inputs: Inputs,
    references: Mapping[str, Resolution],
    known: Mapping[str, Resolution],
) -> CacheKey:
    """Return the key of one node. ``references`` are its own; ``known`` are all of the run, for its inputs' base models."""
    bases = {name for artifacts in inputs.values() for artifact in artifacts if (name := base_model_of(artifact))}
    parts: JsonObject = {
        "agent": spec.class_name,
        "version": spec.version,
        "config": _with_digests(spec, config, references),
        "inputs": {port: [artifact.sha256 for artifact in artifacts] for port, artifacts in inputs.items() if artifacts},
        "base_models": sorted({known[name].digest if name in known else f"unresolved:{name}" for name in bases}),
        "seed": seed_of(spec, config),
    }
    return CacheKey(sha256=hashlib.sha256(canonical_json(parts).encode()).hexdigest(), parts=parts)


def base_model_of(artifact: Artifact) -> str:
    """Return the reference of the base model that an artifact was made for, or nothing."""
    name = artifact.metadata.get("base_model")
    return name if isinstance(name, str) else ""


def look_up(key: CacheKey, *, owner: User) -> NodeRun | None:
    """Return the newest node run of ``owner`` with this key whose outputs are still there."""
    outputs = NodeRunOutput.objects.filter(node_run=OuterRef("pk"))
    hits = NodeRun.objects.filter(Exists(outputs), run__owner=owner, cache_key=key.sha256, status=Status.SUCCEEDED)
    return hits.select_related("run").order_by("-finished_at").first()


def explain_miss(key: CacheKey, *, owner: User, node: str) -> str:
    """Say what differs from the closest earlier node run of this agent, the same node's first among equals."""
    earlier = NodeRun.objects.filter(run__owner=owner, agent=key.parts["agent"], status=Status.SUCCEEDED, cached=False)
    candidates = earlier.exclude(cache_parts={}).order_by("-finished_at").values_list("node", "cache_parts")[:CANDIDATES]
    differences = [(list(differing_parts(parts, key.parts)), name != node) for name, parts in candidates]
    if not differences:
        return NEVER_RAN
    closest, _ = min(differences, key=lambda item: (len(item[0]), item[1]))
    return "; ".join(closest) or "the outputs of the earlier run are gone"


def differing_parts(old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    """Yield one text for each difference between two keys' parts."""
    if old.get("version") != new.get("version"):
        yield f"agent version: {old.get('version')} -> {new.get('version')}"
    before, after = _flat(old.get("config")), _flat(new.get("config"))
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) == after.get(name):
            continue
        if name.endswith(".digest"):
            yield f"config.{name.removesuffix('.digest')}: the content it names changed"
        else:
            yield f"config.{name}: {_short(before.get(name))} -> {_short(after.get(name))}"
    yield from _differing_inputs(_mapping(old.get("inputs")), _mapping(new.get("inputs")))
    if old.get("base_models") != new.get("base_models"):
        yield "base model of the inputs changed"
    if old.get("seed") != new.get("seed"):
        yield f"seed: {old.get('seed')} -> {new.get('seed')}"


def _differing_inputs(old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    for port in sorted(old.keys() | new.keys()):
        if port not in old:
            yield f"input {port} added"
        elif port not in new:
            yield f"input {port} removed"
        elif old[port] != new[port]:
            yield f"input {port} changed"


def _with_digests(spec: AgentSpec, config: Mapping[str, object], references: Mapping[str, Resolution]) -> JsonObject:
    """Return the config with every reference replaced by the digest of its content, so that names do not matter."""
    digested = deepcopy(dict(config))
    for found in find_references(spec, config):
        place: object = digested
        *path, last = found.field.split(".")
        for part in path:
            place = place[int(part)] if isinstance(place, list) else _mapping(place)[part]
        digest = {"digest": references[found.value].digest if found.value in references else f"unresolved:{found.value}"}
        if isinstance(place, list):
            place[int(last)] = digest
        elif isinstance(place, dict):
            place[last] = digest
    return digested


def _flat(value: object, path: str = "") -> dict[str, object]:
    if not isinstance(value, Mapping) or (path and not value):
        return {path: value} if path else {}
    below = (_flat(item, f"{path}.{key}" if path else str(key)) for key, item in value.items())
    return {name: item for flat in below for name, item in flat.items()}


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _short(value: object) -> str:
    text = "not set" if value is None else canonical_json(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
