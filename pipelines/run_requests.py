"""A request to start a run: is it known already, is its name free, and can its graph run?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from celery_workers.contract.agent import AgentSpec
from pipelines.graph import Graph, canonical_json, normalize, read_graph, validate
from pipelines.graph.parsing import NOT_PLAIN, size_of_json
from pipelines.models import PipelineVersion, Run
from pipelines.models.run import CLIENT_RUN_ID
from pipelines.references import Resolution, resolve_graph
from platform_site.common.errors import Conflict, InvalidGraph, InvalidInput, Problem
from platform_site.models import User

MAX_TEXT = 200


@dataclass(frozen=True, kw_only=True)
class CheckedGraph:
    """A normalized graph that can run, the request's parameters laid over it, and what its references stand for."""

    graph: Graph
    resolutions: dict[str, dict[str, Resolution]]


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What a person or script asked for.

    Raises: InvalidInput: neither or both of graph and version are given, or a text is too long.
    """

    user: User
    graph: Mapping[str, object] | None
    version: PipelineVersion | None
    client_run_id: str | None
    name: str
    parameters: dict[str, object]
    ignore_cache: bool
    idempotency_key: str | None

    def __post_init__(self) -> None:
        """Refuse a request that names no graph, or two."""
        if (self.graph is None) == (self.version is None):
            raise InvalidInput("give either a graph or a version of a pipeline")
        for field, value in (("name", self.name), ("Idempotency-Key", self.idempotency_key or "")):
            if len(value) > MAX_TEXT or "\x00" in value:
                message = f"must be at most {MAX_TEXT} characters without NUL, got {len(value)}"
                raise InvalidInput(f"the {field} {message}", errors=[Problem(message=message, field=field)])

    @property
    def document(self) -> Mapping[str, object]:
        """The pipeline JSON."""
        return self.version.graph if self.version is not None else cast(Mapping[str, object], self.graph)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that was asked for: equal requests have equal ones.

        Raises: InvalidGraph: it is not plain JSON.
        """
        version = str(self.version.pk) if self.version is not None else None
        asked = [self.document, version, self.client_run_id, self.name, self.parameters, self.ignore_cache]
        try:
            text = canonical_json(asked)
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidGraph(f"the request must be plain JSON with finite numbers: {error}") from error
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def earlier_run(self) -> Run | None:
        """Return the run that this Idempotency-Key has started before.

        Raises: Conflict: it was used for another request.
        """
        if self.idempotency_key is None:
            return None
        earlier = Run.objects.filter(owner=self.user, idempotency_key=self.idempotency_key).first()
        if earlier is not None and earlier.request_digest != self.digest:
            raise Conflict("this Idempotency-Key was used for another request", code="idempotency_key_reused")
        return earlier

    def check_client_run_id(self) -> None:
        """Check the client's own name of the run.

        Raises: InvalidInput: it is malformed. Conflict: the user has a run of that name.
        """
        if self.client_run_id is None:
            return
        if not CLIENT_RUN_ID.regex.search(self.client_run_id):  # type: ignore[union-attr]  # compiled at first use
            message = f"{CLIENT_RUN_ID.message} Got {self.client_run_id[:80]!r}."
            problem = Problem(message=message, code="invalid_run_id", field="run_id")
            raise InvalidInput("the run_id is malformed", errors=[problem])
        if Run.objects.filter(owner=self.user, client_run_id=self.client_run_id).exists():
            raise Conflict(f"you have a run called {self.client_run_id!r} already", code="run_id_taken")

    def checked(self, specs: Mapping[str, AgentSpec]) -> CheckedGraph:
        """Check the graph and everything it refers to. May ask the hub and the object store.

        Raises: InvalidGraph: with every problem by node and field.
        """
        given, problems = read_graph(self.document)
        graph, parameter_problems = apply_parameters(given, self.parameters)
        resolutions, unresolved = resolve_graph(graph, specs, user=self.user)
        problems = [*problems, *parameter_problems, *validate(graph, specs), *unresolved]
        if problems:
            count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
            codes = {problem.code for problem in problems}
            code = codes.pop() if len(codes) == 1 else None
            raise InvalidGraph(f"the pipeline cannot run: {count}", errors=problems, code=code)
        return CheckedGraph(graph=normalize(graph, specs), resolutions=resolutions)


def apply_parameters(graph: Graph, parameters: Mapping[str, object]) -> tuple[Graph, list[Problem]]:
    """Return the graph with ``{"node.field": value}`` set; whether a field exists and fits is the config's own check."""
    configs = {node.name: dict(node.config) for node in graph.nodes}
    problems: list[Problem] = []
    for name, value in parameters.items():
        node, _, field = name.partition(".")
        if not field:
            message = f"a parameter must be called <node>.<field>, got {name[:80]!r}"
            problems.append(Problem(message=message, code="invalid_parameter", field=name[:100]))
        elif node not in configs:
            message = f"there is no node {node[:80]!r}; there is {', '.join(sorted(configs))}"
            problems.append(Problem(message=message, code="invalid_parameter", field=name[:100]))
        elif size_of_json(value) is None:
            problems.append(Problem(message=NOT_PLAIN, code="invalid_parameter", field=name[:100]))
        else:
            configs[node][field] = value
    return graph.with_configs(configs), problems
