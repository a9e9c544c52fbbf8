"""Edit a pipeline's draft so that no edit is lost, and freeze it into versions.

A draft may be half done: nodes without edges, configs that are not valid yet, agents that this installation lacks. It must
only be a pipeline: what ``graph.read_graph`` can read. Every saved draft has a number one higher than the one it was made
from; whoever saves on top of an older one is told, with the draft that is there now.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.db import transaction
from django.utils import timezone

from celery_workers.contract.agent import AgentSpec
from pipelines import catalog
from pipelines.graph import read_graph
from pipelines.graph.parsing import size_of_json
from pipelines.models import Pipeline, PipelineVersion
from pipelines.run_requests import RunRequest
from pipelines.services import freeze_version
from platform_site.common.errors import Conflict, InvalidGraph, InvalidInput, Problem
from platform_site.models import User

MAX_DRAFT_BYTES = 8 * 2**20
MAX_NAME = 200
UNFINISHED = {"empty_graph", "duplicate_node"}
"""What a draft may have and a run may not, of all that reading finds."""

JsonObject = Mapping[str, object]
EMPTY: dict[str, object] = {"nodes": [], "edges": []}


class StaleEdit(Conflict):
    """Somebody saved in between. ``pipeline`` is what is there now; nothing of it was changed."""

    code = "stale_edit"

    def __init__(self, pipeline: Pipeline, edit_number: int) -> None:
        super().__init__(
            f"edit {edit_number} is not the newest: {pipeline.name} is at edit {pipeline.edit_number}; look at what changed,"
            " then save on top of that number, or save yours as another pipeline"
        )
        self.pipeline = pipeline


def create_pipeline(*, user: User, name: str, description: str = "", draft: JsonObject | None = None) -> Pipeline:
    """Keep a new pipeline, whose draft has edit number 1.

    Raises: InvalidInput: the name is empty or too long. InvalidGraph: the draft is no pipeline.
    """
    pipeline = Pipeline(owner=user, name=_checked_name(name), description=description, draft=_checked_draft(draft or EMPTY))
    pipeline.save()
    return pipeline


@transaction.atomic
def save_draft(
    *,
    pipeline: Pipeline,
    edit_number: int,
    draft: JsonObject | None = None,
    name: str | None = None,
    description: str | None = None,
) -> Pipeline:
    """Save an edit that was made on top of ``edit_number``; what is None stays.

    An edit that is there already, because the answer to it was lost, is the success that it was.

    Raises: StaleEdit: there is a newer one. InvalidInput, InvalidGraph: as ``create_pipeline``.
    """
    given = {
        "draft": None if draft is None else _checked_draft(draft),
        "name": None if name is None else _checked_name(name),
        "description": description,
    }
    changes = {field: value for field, value in given.items() if value is not None}
    locked = Pipeline.objects.select_for_update(no_key=True).get(pk=pipeline.pk)
    is_there = all(getattr(locked, field) == value for field, value in changes.items())
    if is_there and edit_number in (locked.edit_number, locked.edit_number - 1):
        return locked
    if edit_number != locked.edit_number:
        raise StaleEdit(locked, edit_number)
    for field, value in changes.items():
        setattr(locked, field, value)
    locked.edit_number += 1
    locked.save()
    return locked


@transaction.atomic
def freeze_draft(
    *, pipeline: Pipeline, edit_number: int, name: str = "", specs: Mapping[str, AgentSpec] | None = None
) -> PipelineVersion:
    """Return the immutable version of the draft with that number, new or, where nothing changed, the newest one.

    Raises: StaleEdit: the draft is another by now. InvalidGraph: it could not run, with every problem.
    """
    specs = catalog.agents() if specs is None else specs
    locked = Pipeline.objects.select_for_update(no_key=True).get(pk=pipeline.pk)
    if edit_number != locked.edit_number:
        raise StaleEdit(locked, edit_number)
    request = RunRequest(
        user=locked.owner, graph=locked.draft, version=None, client_run_id=None, name=name, parameters={},
        ignore_cache=False, idempotency_key=None,
    )  # fmt: skip
    return freeze_version(user=locked.owner, graph=request.checked(specs).graph, pipeline=locked, name=name)


def throw_away(*, pipeline: Pipeline) -> None:
    """Take the pipeline out of every list; its versions and runs stay. A second time changes nothing."""
    Pipeline.objects.filter(pk=pipeline.pk, deleted_at=None).update(deleted_at=timezone.now())


def draft_problems(draft: object) -> list[Problem]:
    """Return why ``draft`` is not even a pipeline; empty for one that is merely unfinished."""
    _, problems = read_graph(draft)
    return [problem for problem in problems if problem.code not in UNFINISHED]


def _checked_draft(draft: JsonObject) -> JsonObject:
    size_bytes = size_of_json(draft)
    if size_bytes is not None and size_bytes > MAX_DRAFT_BYTES:
        raise InvalidGraph(f"a draft may have at most {MAX_DRAFT_BYTES} bytes of JSON, got {size_bytes}")
    problems = draft_problems(draft)
    if problems:
        raise InvalidGraph("this is no pipeline", errors=problems)
    return {key: draft[key] for key in ("nodes", "edges", "ui") if key in draft}


def _checked_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > MAX_NAME:
        message = f"a pipeline's name must have 1 to {MAX_NAME} characters, got {len(name)}"
        raise InvalidInput(message, errors=[Problem(message=message, field="name")])
    return name
