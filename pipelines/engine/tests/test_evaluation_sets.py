"""A graph whose preprocessing compares rows with an evaluation set, from the API to the report, by real agent processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from celery_workers.conftest import tiny_model_folder, tiny_tokenizer  # noqa: F401 - fixtures
from pipelines.engine.children import ChildPool
from pipelines.engine.executor import execute_next
from pipelines.engine.supervisor import Orders, Slot
from pipelines.engine.tests.driving import latest, statuses
from pipelines.models import Run
from platform_site.common import store

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def work() -> Iterator[Callable[[], None]]:
    """Execute what waits for the processor until nothing does."""
    pool = ChildPool(warm="light")

    def until_idle() -> None:
        while execute_next(queue="cpu", slot=Slot(worker_name="w", device="cpu", threads=1, pool=pool, orders=Orders())):
            pass

    yield until_idle
    pool.close()


@pytest.fixture
def base_model(settings, tmp_path: Path, tiny_model_folder: Path) -> str:  # noqa: F811
    shutil.copytree(tiny_model_folder, tmp_path / "roots" / "tiny")
    settings.ENV = settings.ENV.model_copy(update={"model_roots": [str(tmp_path / "roots")]})
    return "local:tiny"


def upload(client, name: str, rows: list[dict[str, str]]) -> str:
    content = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    answer = client.post("/api/v1/datasets/upload", {"file": SimpleUploadedFile(f"{name}.jsonl", content), "name": name})
    assert answer.status_code == 201, answer.json()
    return f"dataset:{answer.json()['id']}"


def graph(rows: str, benchmark: str, base_model: str) -> dict[str, object]:
    configs = {
        "rows": ("DatasetAgent", {"file_path": rows}),
        "benchmark": ("DatasetAgent", {"file_path": benchmark}),
        "preprocessing": ("PreprocessingAgent", {"base_model": base_model, "eval_fraction": 0}),
    }
    return {
        "nodes": [{"agent_name": name, "agent_class": agent, "config": config} for name, (agent, config) in configs.items()],
        "edges": [
            {"from_agent": "rows", "to_agent": "preprocessing", "to_port": "dataset"},
            {"from_agent": "benchmark", "to_agent": "preprocessing", "to_port": "evaluation_sets"},
        ],
    }


def test_rows_that_ask_what_the_evaluation_set_asks_are_left_out_of_a_run(
    api_client, work: Callable[[], None], base_model: str
) -> None:
    rows = upload(api_client, "rows", [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(1, 9)])
    benchmark = upload(api_client, "benchmark", [{"question": "Question 3", "answer": "another answer"}])
    drawn = graph(rows, benchmark, base_model)

    checked = api_client.post("/api/v1/pipelines/validate", drawn, format="json")
    assert (checked.status_code, checked.json()["problems"]) == (200, []), checked.json()
    started = api_client.post("/api/v1/jobs", drawn, format="json")
    assert started.status_code == 201, started.json()
    work()

    run = Run.objects.get(pk=started.json()["id"])
    assert statuses(run) == {"rows": "succeeded", "benchmark": "succeeded", "preprocessing": "succeeded"}
    outputs = {output.port: output.artifact for output in latest(run, "preprocessing").outputs.all()}
    assert outputs["examples"].metadata["rows"] == 7
    with store.open_stored(outputs["report"].uri) as opened:
        report = json.load(opened)
    (found,) = report["data"]["contaminated"]
    assert (found["row"], found["evaluation_set"], found["evaluation_row"]) == (3, 1, 1)
    assert "1 ask what an evaluation set asks" in report["verdict"]
