"""Keep the newest checkpoints of a node in the store, and find the one to go on from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from django.db import transaction
from django.db.models import QuerySet

from pipelines import events
from pipelines.engine.attempts import lock_run, log_line
from pipelines.events import EventLine, Fence
from pipelines.models import Checkpoint, NodeRun
from platform_site.common import store
from platform_site.common.store import CHECKPOINT_PREFIX, ContentCorrupt, ContentMissing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Resumable:
    """A verified checkpoint in a local folder."""

    path: Path
    step: int
    attempt: int


def keep_checkpoint(node_run: NodeRun, path: Path, *, step: int, keep: int, fence: Fence) -> bool:
    """Store a checkpoint folder, record it, and drop all but the ``keep`` newest of the node; False if the fence is lost.

    Raises: StorageFull, Unavailable, InvalidFile: nothing was recorded.
    """
    stored = store.store_path(path, prefix=_prefix(node_run))
    with transaction.atomic():
        lock_run(node_run.run_id)
        held = NodeRun.objects.fenced(node_run_id=fence.node_run_id, attempt=fence.attempt, worker=fence.worker)
        if not held.exists():
            return False
        Checkpoint.objects.update_or_create(
            node_run=node_run,
            step=step,
            defaults={
                "uri": stored.uri,
                "sha256": stored.sha256,
                "size_bytes": stored.size_bytes,
                "manifest": stored.manifest,
            },
        )
        line = log_line(node_run, f"checkpoint of step {step} stored", step=step, size_bytes=stored.size_bytes)
        events.append(node_run.run_id, [line])
    for old in list(_of_node(node_run)[keep:]):
        drop_checkpoint(old)
    return True


def newest_valid(node_run: NodeRun, destination: Path) -> tuple[Resumable | None, list[EventLine]]:
    """Fetch the newest checkpoint of the node that is whole, and return it with the lines that tell of it.

    Raises: StorageFull, Unavailable.
    """
    lines: list[EventLine] = []
    for checkpoint in list(_of_node(node_run)):
        try:
            store.fetch(
                checkpoint.uri,
                manifest=checkpoint.manifest,
                is_folder=True,
                sha256=checkpoint.sha256,
                destination=destination,
            )
        except (ContentCorrupt, ContentMissing) as error:
            logger.warning("checkpoint.unusable %s: %s", checkpoint.pk, error)
            message = f"the checkpoint of step {checkpoint.step} cannot be used: {error}"
            lines.append(log_line(node_run, message, level="WARNING", step=checkpoint.step))
            drop_checkpoint(checkpoint)
            continue
        attempt = checkpoint.node_run.attempt
        message = f"going on from step {checkpoint.step}, which attempt {attempt} saved"
        lines.append(log_line(node_run, message, step=checkpoint.step))
        return Resumable(path=destination, step=checkpoint.step, attempt=attempt), lines
    return None, lines


def drop_checkpoint(checkpoint: Checkpoint) -> None:
    """Delete a checkpoint's row, and its files unless another row of the node has the same content."""
    uri, manifest = checkpoint.uri, checkpoint.manifest
    checkpoint.delete()
    if not Checkpoint.objects.filter(uri=uri).exists():
        store.remove_stored(uri, manifest=manifest, is_folder=True)


def drop_all(node_run: NodeRun) -> None:
    """Delete every checkpoint of the node: it has succeeded, or its run is gone."""
    for checkpoint in list(_of_node(node_run)):
        drop_checkpoint(checkpoint)


def _of_node(node_run: NodeRun) -> QuerySet[Checkpoint]:
    found = Checkpoint.objects.filter(node_run__run_id=node_run.run_id, node_run__node=node_run.node)
    return found.select_related("node_run").order_by("-step", "-created_at")


def _prefix(node_run: NodeRun) -> str:
    # A place of the node's own: no other row can come to need these files while they are deleted.
    return f"{CHECKPOINT_PREFIX}/{node_run.run_id}/{node_run.node}"
