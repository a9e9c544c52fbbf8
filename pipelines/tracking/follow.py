"""Bring an MLflow server up to date with the trainings that PostgreSQL knows.

Everything sent is taken from stored events, so a server that was away, or a worker that died in between, costs nothing but
time: the next call goes on where the server's copy ends. A node is one MLflow run, whatever the number of its attempts.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from django.db.models.functions import Now
from django.utils import timezone
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from celery_workers.contract.agent import Category
from pipelines import catalog
from pipelines.models import Artifact, Event, NodeRun, Status, TrackedNode
from pipelines.tracking import lineage
from platform_site.common.store import ContentCorrupt, ContentMissing, fetch

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

TAKE_IN_FOR = timedelta(hours=1)
"""A training is noticed while it runs or within this time after its end; once noticed it waits for the server for ever."""

EVENTS_AT_ONCE = 500
PARAMS_AT_ONCE, METRICS_AT_ONCE = 100, 1_000  # MLflow's limits of a batch
LARGEST_UPLOAD = 256 * 2**20  # bytes; of anything larger the tags give the digest

Item = TypeVar("Item")

_ENDS = {Status.SUCCEEDED: "FINISHED", Status.CANCELED: "KILLED"}


def follow(client: MlflowClient) -> int:
    """Send what is new of every training and return the number of metric values sent.

    What the server refuses of one node is noted there and tried again at the next call; the others go on.

    Raises: MlflowException: the server cannot be reached at all.
    """
    _take_in_new()
    waiting = list(TrackedNode.objects.unfinished())
    if not waiting:
        return 0
    client.search_experiments(max_results=1)  # one question first: a server that is away is no node's fault
    return sum(_try_to_follow(client, tracked) for tracked in waiting)


def _take_in_new() -> None:
    agents = [name for name, spec in catalog.agents().items() if spec.category == Category.TRAINING]
    begun = NodeRun.objects.filter(agent__in=agents, cached=False, started_at__isnull=False)
    recent = begun.exclude(finished_at__lt=Now() - TAKE_IN_FOR)
    known = TrackedNode.objects.values_list("run_id", "node")
    new = set(recent.values_list("run_id", "node")) - set(known)
    TrackedNode.objects.bulk_create([TrackedNode(run_id=run, node=node) for run, node in new], ignore_conflicts=True)


def _try_to_follow(client: MlflowClient, tracked: TrackedNode) -> int:
    error, sent = "", 0
    try:
        sent = _follow_node(client, tracked)
    except (MlflowException, ContentMissing, ContentCorrupt, OSError) as problem:
        error = without_password(f"{type(problem).__name__}: {problem}")
        if error != tracked.error:
            logger.warning("Node %s cannot be told to MLflow: %s", tracked, error)
    _keep(tracked, error=error)
    return sent


def without_password(text: str) -> str:
    """Return ``text`` with the user and password of every address in it hidden."""
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1***@", text)


def _keep(tracked: TrackedNode, **values: object) -> None:
    """Store what was just sent, and only that; a node whose run was deleted meanwhile is let go."""
    for name, value in values.items():
        setattr(tracked, name, value)
    TrackedNode.objects.filter(pk=tracked.pk).update(**values, updated_at=timezone.now())


def _follow_node(client: MlflowClient, tracked: TrackedNode) -> int:
    # The attempt is read before its events: all it measured is stored before its end is.
    attempts = NodeRun.objects.select_related("run__owner", "run__version__pipeline")
    node_run = attempts.filter(run=tracked.run_id, node=tracked.node).order_by("-attempt").first()
    if node_run is None:
        return 0
    if not tracked.tracking_run_id:
        _begin(client, tracked, node_run)
    elif tracked.ended_attempt is not None:
        client.update_run(tracked.tracking_run_id, status="RUNNING")
        _keep(tracked, ended_attempt=None)
    sent = _send_metrics(client, tracked)
    if node_run.is_terminal:
        _end(client, tracked, node_run)
    return sent


def _begin(client: MlflowClient, tracked: TrackedNode, node_run: NodeRun) -> None:
    run = node_run.run
    name = str(run.version.pipeline.name if run.version.pipeline else run.version.name or "Truetune")
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    same = f"tags.`{lineage.IDENTITY_TAG}` = '{lineage.identity_of(run, tracked.node)}'"
    found = client.search_runs([experiment_id], filter_string=same, max_results=1)
    if found:
        tracking_run = found[0]
    else:
        began = round((node_run.started_at or run.created_at).timestamp() * 1000)
        tracking_run = client.create_run(experiment_id, start_time=began, tags=lineage.tags_of(node_run))
    params = [Param(name, value) for name, value in lineage.params_of(node_run).items()]
    for some in _parts(params, PARAMS_AT_ONCE):
        client.log_batch(tracking_run.info.run_id, params=some)
    _keep(tracked, experiment_id=experiment_id, tracking_run_id=tracking_run.info.run_id)


def _send_metrics(client: MlflowClient, tracked: TrackedNode) -> int:
    sent = 0
    while True:
        rows = Event.objects.filter(run=tracked.run_id, node=tracked.node, type=Event.Type.METRIC, seq__gt=tracked.last_seq)
        events = list(rows.order_by("seq")[:EVENTS_AT_ONCE])
        if not events:
            return sent
        last_steps = dict(tracked.last_steps)
        metrics = [metric for event in events for metric in _new_metrics(event, last_steps)]
        for some in _parts(metrics, METRICS_AT_ONCE):
            client.log_batch(tracked.tracking_run_id, metrics=some)
        sent += len(metrics)
        _keep(tracked, last_seq=events[-1].seq, last_steps=last_steps)


def _parts(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _new_metrics(event: Event, last_steps: dict[str, int]) -> Iterator[Metric]:
    """Yield the event's numbers. A step that a resumed attempt repeats is left out: it gives the same bits again."""
    values = {**event.data, **({} if event.loss is None else {"loss": event.loss}), "epoch": event.epoch}
    step = event.step or 0
    for name, value in values.items():
        number = _number(value)
        if number is None or step <= last_steps.get(name, -1):
            continue
        last_steps[name] = step
        yield Metric(name, number, round(event.timestamp.timestamp() * 1000), step)


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return float(value) if isinstance(value, str) and value in ("nan", "inf", "-inf") else None


def _end(client: MlflowClient, tracked: TrackedNode, node_run: NodeRun) -> None:
    tags = [RunTag(name, value) for name, value in lineage.ending_tags_of(node_run).items()]
    client.log_batch(tracked.tracking_run_id, tags=tags)
    for output in node_run.outputs.select_related("artifact"):
        if output.artifact.size_bytes <= LARGEST_UPLOAD:
            _upload(client, tracked.tracking_run_id, output.artifact, port=output.port)
    ended = node_run.finished_at
    client.set_terminated(
        tracked.tracking_run_id,
        status=_ENDS.get(Status(node_run.status), "FAILED"),
        end_time=round(ended.timestamp() * 1000) if ended else None,
    )
    _keep(tracked, ended_attempt=node_run.attempt)


def _upload(client: MlflowClient, tracking_run_id: str, artifact: Artifact, *, port: str) -> None:
    with tempfile.TemporaryDirectory(prefix="tracking-") as folder:
        place = fetch(
            artifact.uri,
            manifest=artifact.manifest,
            is_folder=artifact.is_folder,
            sha256=artifact.sha256,
            destination=Path(folder) / artifact.name,
        )
        if artifact.is_folder:
            client.log_artifacts(tracking_run_id, str(place), artifact_path=port)
        else:
            client.log_artifact(tracking_run_id, str(place), artifact_path=port)
