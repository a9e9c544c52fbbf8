"""Execute the best waiting node of a queue: claim, prepare, supervise, record, plan."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

from django.conf import settings

from celery_workers.contract.agent import AgentSpec
from celery_workers.contract.errors import AgentError
from celery_workers.contract.messages import Failure, Request, Result
from pipelines import catalog
from pipelines.engine import outcomes, planner
from pipelines.engine.attempts import AttemptError, memory_failures
from pipelines.engine.cache import seed_of
from pipelines.engine.checkpoints import drop_all, newest_valid
from pipelines.engine.claim import claim
from pipelines.engine.database import OUTAGES, give_back_connection, with_outages_survived
from pipelines.engine.failures import error_of_exception, error_of_failure
from pipelines.engine.leases import LeaseKeeper
from pipelines.engine.outputs import StoredOutput, store_outputs
from pipelines.engine.recorder import Recorder
from pipelines.engine.supervisor import Slot, supervise
from pipelines.engine.workdir import fetch_inputs, fetch_references, workdir_of
from pipelines.events import Fence
from pipelines.models import Artifact, NodeRun
from platform_site.common.errors import DomainError

logger = logging.getLogger(__name__)

Specs = Mapping[str, AgentSpec]


@dataclass(frozen=True, kw_only=True)
class ExecutedNode:
    """What one call did, and which queues have work now."""

    node_run_id: UUID
    run_id: UUID
    node: str
    attempt: int
    queues: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class _Finished:
    """Outputs in the store, and what they were made from."""

    outputs: list[StoredOutput]
    inputs: dict[str, list[Artifact]]


def execute_next(*, queue: str, slot: Slot, specs: Specs | None = None) -> ExecutedNode | None:
    """Take the best waiting attempt of ``queue`` and see it through; None if nothing is due.

    Returns when the attempt is recorded and its process group is gone, so the slot is free again. The caller wakes
    ``queues``. ``slot.orders`` must be fresh for each call.

    Raises: OperationalError: the database stayed away; the lease runs out, and the reconciler takes the attempt back.
    """
    specs = catalog.agents() if specs is None else specs
    node_run = claim(queue, worker=slot.worker_name)
    if node_run is None:
        return None
    queues = _Attempt(node_run, slot=slot, specs=specs).run()
    return ExecutedNode(
        node_run_id=node_run.pk,
        run_id=node_run.run_id,
        node=node_run.node,
        attempt=node_run.attempt,
        queues=frozenset(queues),
    )


class _Attempt:
    def __init__(self, node_run: NodeRun, *, slot: Slot, specs: Specs) -> None:
        self._node_run = node_run
        self._slot = slot
        self._specs = specs
        self._fence = Fence(node_run_id=node_run.pk, attempt=node_run.attempt, worker=slot.worker_name)
        self._recorder = Recorder(node_run, fence=self._fence, orders=slot.orders)

    def run(self) -> set[str]:
        """See the attempt through and return the queues that got work."""
        logger.info("attempt.started %s attempt %s", self._node_run.pk, self._node_run.attempt)
        with LeaseKeeper(self._fence, orders=self._slot.orders):
            outcome = self._outcome()
            queues = self._record(outcome)
        if isinstance(outcome, _Finished) and not self._slot.orders.is_abandoned:
            self._drop_checkpoints()
        return queues

    def _outcome(self) -> _Finished | Failure | AttemptError:
        """Do the work. Whatever goes wrong around the child is an outcome too, except a database that stays away."""
        try:
            with workdir_of(self._node_run) as folder:
                answer, inputs = self._converse(folder)
                if isinstance(answer, Failure):
                    return answer
                outputs = store_outputs(answer, self._specs[self._node_run.agent])
                self._recorder.flush()
                return _Finished(outputs=outputs, inputs=inputs)
        except OUTAGES:
            if self._slot.orders.is_abandoned:
                return _stopped("abandoned")
            raise
        except (AgentError, DomainError) as error:
            return error_of_exception(error)
        except Exception as error:
            logger.exception("attempt.broke %s", self._node_run.pk)
            return error_of_exception(error)

    def _converse(self, folder: Path) -> tuple[Result | Failure, dict[str, list[Artifact]]]:
        request, inputs = self._prepare(folder)
        orders = self._slot.orders
        if orders.is_abandoned or orders.is_canceled or orders.is_shut_down:
            return _stopped("canceled" if orders.is_canceled else "shutdown"), inputs
        give_back_connection()
        with closing(self._slot.pool.take()) as child:
            answer = supervise(
                request,
                child=child,
                listener=self._recorder,
                orders=orders,
                cancel_grace_seconds=settings.ENV.cancel_grace_seconds,
            )
        self._recorder.flush()
        return answer, inputs

    def _prepare(self, folder: Path) -> tuple[Request, dict[str, list[Artifact]]]:
        node_run = self._node_run
        spec = self._specs[node_run.agent]
        board = planner.lay_out(node_run.run, specs=self._specs)
        inputs = planner.gather_inputs(board, node_run.node)
        values = fetch_inputs(inputs, folder)
        references = fetch_references(node_run, inputs, folder, known=board.known_references)
        resumable, lines = newest_valid(node_run, folder / "checkpoint")
        for line in lines:
            self._recorder.add(line)
        request = Request(
            run_id=str(node_run.run_id),
            node=node_run.node,
            attempt=node_run.attempt,
            agent=node_run.agent,
            config=node_run.config,
            inputs=values,
            references=references,
            workdir=str(folder / "work"),
            seed=seed_of(spec, node_run.config),
            resume_from=str(resumable.path) if resumable else None,
            device=self._slot.device,
            threads=self._slot.threads,
            memory_failures=memory_failures(node_run),
        )
        return request, inputs

    def _record(self, outcome: _Finished | Failure | AttemptError) -> set[str]:
        """Record the outcome; if recording a success breaks, record that as the failure it is."""
        try:
            return self._survive(partial(self._write, outcome))
        except OUTAGES:
            if self._slot.orders.is_abandoned:
                return set()
            raise
        except Exception as error:
            logger.exception("attempt.not_recorded %s", self._node_run.pk)
            return self._survive(partial(self._write, error_of_exception(error)))

    def _write(self, outcome: _Finished | Failure | AttemptError) -> set[str]:
        if isinstance(outcome, _Finished):
            return outcomes.record_success(self._fence, outcome.outputs, inputs=outcome.inputs, specs=self._specs)
        if isinstance(outcome, AttemptError):
            return outcomes.record_failure(self._fence, outcome, specs=self._specs)
        if outcome.error_kind is not None:
            return outcomes.record_failure(self._fence, error_of_failure(outcome), specs=self._specs)
        if self._slot.orders.is_abandoned:
            return set()
        if self._slot.orders.is_canceled:
            return outcomes.record_canceled(self._fence, specs=self._specs)
        return outcomes.record_left(self._fence, specs=self._specs)

    def _survive(self, write: partial[set[str]]) -> set[str]:
        return with_outages_survived(write, is_pointless=lambda: self._slot.orders.is_abandoned)

    def _drop_checkpoints(self) -> None:
        try:
            drop_all(self._node_run)
        except (*OUTAGES, OSError, DomainError) as error:
            logger.warning("checkpoints.left %s: %s", self._node_run.pk, error)


def _stopped(code: str) -> Failure:
    return Failure(error_kind=None, code=code, message=f"the attempt was {code} before its process began")
