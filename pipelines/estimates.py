"""What a run will need, before it starts: tokens, memory, time, disk and cost, node by node.

Nodes whose results are in the cache need nothing. For the others the agents answer, in a process of their own
(``celery_workers.estimate_process``), from the facts gathered here: files that were imported, base models that are here, and
what the workers' machines can do. Nothing is stored and nothing starts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings

from celery_workers.contract.agent import AgentSpec
from celery_workers.contract.errors import AgentError
from celery_workers.contract.estimates import (
    EstimateAnswer,
    EstimateQuestion,
    JsonObject,
    Machine,
    NodeEstimate,
    NodeQuestion,
)
from datasets_app.models import DatasetVersion
from pipelines import catalog
from pipelines.engine import cache
from pipelines.engine.one_question import NoAnswer, ask_process
from pipelines.graph import Graph
from pipelines.models import Artifact, NodeRunOutput, PipelineVersion, Worker
from pipelines.references import Resolution, UnresolvedReference, find_tokenizer
from pipelines.references.find import ReferenceKind
from pipelines.run_requests import CheckedGraph, RunRequest
from platform_site.common.errors import DomainError, Unavailable
from platform_site.models import User

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 90.0

Specs = Mapping[str, AgentSpec]
Given = dict[str, dict[str, list[Artifact]]]


@dataclass(frozen=True, kw_only=True)
class RunEstimate:
    """The nodes in the graph's order, with what each costs; ``machines`` by queue, as the estimate took them."""

    nodes: list[NodeEstimate]
    costs: list[float | None]
    queues: dict[str, str]
    """Of each node."""
    machines: dict[str, Machine]

    @property
    def seconds(self) -> float | None:
        """Of all nodes, one after the other; None where one is not known."""
        known = [node.seconds for node in self.nodes]
        return None if None in known else sum(seconds for seconds in known if seconds is not None)

    @property
    def cost(self) -> float | None:
        """Of all nodes; None where one is not known, or there are no prices."""
        return None if None in self.costs else sum(cost for cost in self.costs if cost is not None)


def estimate_run(
    *,
    user: User,
    graph: Mapping[str, object] | None = None,
    version: PipelineVersion | None = None,
    parameters: Mapping[str, object] | None = None,
    ignore_cache: bool = False,
    specs: Specs | None = None,
) -> RunEstimate:
    """Return what this run would need if it started now.

    Raises: InvalidGraph: it could not start, with every problem. Unavailable: no process can answer now.
    """
    question = ask_about(user=user, graph=graph, version=version, parameters=parameters, ignore_cache=ignore_cache, specs=specs)
    return priced(question, _answer(question))


def ask_about(
    *,
    user: User,
    graph: Mapping[str, object] | None = None,
    version: PipelineVersion | None = None,
    parameters: Mapping[str, object] | None = None,
    ignore_cache: bool = False,
    specs: Specs | None = None,
) -> EstimateQuestion:
    """Return the question whose answer says what this run would need.

    Raises: InvalidGraph: as ``estimate_run``.
    """
    specs = catalog.agents() if specs is None else specs
    request = RunRequest(
        user=user, graph=graph, version=version, client_run_id=None, name="", parameters=dict(parameters or {}),
        ignore_cache=ignore_cache, idempotency_key=None,
    )  # fmt: skip
    checked = request.checked(specs)
    given = {} if ignore_cache else known_outputs(checked, specs, user=user)
    return _question(checked, given, specs, user=user)


def priced(question: EstimateQuestion, answer: EstimateAnswer) -> RunEstimate:
    """Return the answer with what each node costs on the machine of its queue."""
    queues = {node.node: node.queue for node in question.nodes}
    costs = [_cost(node, question.machines[queues[node.node]]) for node in answer.nodes]
    return RunEstimate(nodes=answer.nodes, costs=costs, queues=queues, machines=question.machines)


def known_outputs(checked: CheckedGraph, specs: Specs, *, user: User) -> Given:
    """Return the artifacts, by node and port, of the nodes that the cache would answer for ``user``."""
    known = {value: found for resolutions in checked.resolutions.values() for value, found in resolutions.items()}
    given: Given = {}
    for name in checked.graph.order:
        edges = checked.graph.edges_into(name)
        if any(edge.from_node not in given for edge in edges):
            continue
        inputs: dict[str, list[Artifact]] = {}
        for edge in edges:
            inputs.setdefault(str(edge.to_port), []).extend(given[edge.from_node].get(str(edge.from_port), []))
        node = checked.graph.by_name[name]
        key = cache.cache_key(
            specs[node.agent_class], node.config, inputs=inputs, references=checked.resolutions[name], known=known
        )
        hit = cache.look_up(key, owner=user)
        if hit is not None:
            given[name] = _by_port(hit.outputs.select_related("artifact"))
    return given


def _by_port(outputs: Sequence[NodeRunOutput]) -> dict[str, list[Artifact]]:
    ports: dict[str, list[Artifact]] = {}
    for output in outputs:
        ports.setdefault(output.port, []).append(output.artifact)
    return ports


def _question(checked: CheckedGraph, given: Given, specs: Specs, *, user: User) -> EstimateQuestion:
    folders, bundled, files = _facts(checked.resolutions, user=user)
    queues = {spec.queue.value for spec in specs.values()}
    return EstimateQuestion(
        nodes=[_node_question(name, checked.graph, given, specs) for name in checked.graph.order],
        folders=folders,
        bundled=bundled,
        files=files,
        machines={queue: machine_of(queue) for queue in queues},
    )


def _node_question(name: str, graph: Graph, given: Given, specs: Specs) -> NodeQuestion:
    inputs: dict[str, list[tuple[str, str]]] = {}
    for edge in graph.edges_into(name):
        inputs.setdefault(str(edge.to_port), []).append((edge.from_node, str(edge.from_port)))
    node = graph.by_name[name]
    ports = given.get(name)
    return NodeQuestion(
        node=name,
        agent=node.agent_class,
        config=node.config,
        inputs=inputs,
        queue=specs[node.agent_class].queue.value,
        given=None if ports is None else {port: artifacts[0].metadata for port, artifacts in ports.items() if artifacts},
    )


def _facts(
    resolutions: Mapping[str, Mapping[str, Resolution]], *, user: User
) -> tuple[dict[str, str], dict[str, str], dict[str, JsonObject]]:
    """Return folders of base models, those of them that are bundled, and facts of data files, each by reference."""
    folders: dict[str, str] = {}
    bundled: dict[str, str] = {}
    files: dict[str, JsonObject] = {}
    for value, found in {value: found for own in resolutions.values() for value, found in own.items()}.items():
        if found.kind == ReferenceKind.DATA:
            files[value] = _file_facts(found)
            continue
        try:
            tokenizer = find_tokenizer(value, user=user)
        except (UnresolvedReference, AgentError, DomainError) as error:
            logger.info("estimate.model_not_here %s: %s", value, error)
            continue
        folders[value] = str(tokenizer.path)
        if tokenizer.bundled:
            bundled[value] = tokenizer.bundled
    return folders, bundled, files


def _file_facts(found: Resolution) -> JsonObject:
    if found.source.get("type") != "dataset":
        return {"size_bytes": found.source.get("size_bytes")}
    version = DatasetVersion.objects.get(pk=UUID(str(found.source["version_id"])))
    return {
        "rows": version.rows,
        "characters": version.statistics.get("characters", 0),
        "size_bytes": version.size_bytes,
        "format": version.format,
    }


def machine_of(queue: str) -> Machine:
    """Return what the newest worker of ``queue`` measured of its machine; a CPU of unknown speed if none has."""
    profiles = Worker.objects.filter(queue=queue).exclude(profile={}).order_by("-last_seen_at")
    profile = profiles.values_list("profile", flat=True).first()
    return Machine() if profile is None else Machine.model_validate(profile)


def _answer(question: EstimateQuestion) -> EstimateAnswer:
    try:
        output = ask_process("celery_workers.estimate_process", question.model_dump_json().encode(), seconds=ANSWER_SECONDS)
    except (TimeoutError, NoAnswer, OSError) as error:
        raise Unavailable(f"no estimate could be made: {error}", code="estimate_failed") from error
    return EstimateAnswer.model_validate_json(output)


def _cost(node: NodeEstimate, machine: Machine) -> float | None:
    """Return what the node's time costs on ``machine``; None where time or price is not known."""
    if node.is_done:
        return 0.0
    price = price_of(machine.device)
    return None if price is None or node.seconds is None else price * node.seconds / 3600


def price_of(device: str) -> float | None:
    """Return the price of an hour of ``device``: of the longest name in ``DEVICE_HOUR_PRICES`` that it begins with."""
    prices = settings.ENV.device_hour_prices
    names = [name for name in prices if device.lower().startswith(name.lower())]
    return prices[max(names, key=len)] if names else None
