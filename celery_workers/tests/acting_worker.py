"""Two tasks more for a worker of the tests (``celery worker -I``): supervise a child, and keep a thread busy."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from celery_workers import worker_state
from celery_workers.contract.messages import Request
from pipelines.engine.children import ChildPool
from pipelines.engine.supervisor import supervise
from pipelines.engine.tests.acting import REGISTRY
from pipelines.engine.tests.supervision import Recording
from platform_site.celery import app


@app.task(name="tests.supervise")
def supervise_act(act: str, workdir: str) -> None:
    """Run ``act`` in a slot of this worker; leave ``started`` and then ``answer.json`` beside its workdir."""
    folder = Path(workdir)
    state = worker_state.state_of("cpu")
    assert state is not None
    request = Request(
        run_id="run", node="acting", attempt=1, agent="ActingAgent", config={"act": act}, inputs={}, references={},
        workdir=workdir, seed=1, threads=1,
    )  # fmt: skip
    with state.slot() as slot, closing(ChildPool(warm="light", registry=REGISTRY)) as pool:
        assert slot is not None
        with closing(pool.take()) as child:
            listener = Recording(on_first_log=lambda: folder.with_suffix(".started").write_text(str(child.pid)))
            answer = supervise(request, child=child, listener=listener, orders=slot.orders, cancel_grace_seconds=10)
    folder.with_suffix(".json").write_text(answer.model_dump_json())


@app.task(name="tests.sleep")
def sleep(seconds: str) -> None:
    """Occupy a thread."""
    time.sleep(float(seconds))
