"""What a run would need: real answers about a small model and an uploaded file, of the estimating process too."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from rest_framework.test import APIClient

from celery_workers.agents import registry
from celery_workers.conftest import tiny_model_folder, tiny_tokenizer  # noqa: F401
from celery_workers.estimate_process import estimate_nodes
from datasets_app.services import import_upload
from pipelines.api.serializers.estimates import EstimateSerializer
from pipelines.estimates import RunEstimate, ask_about, price_of, priced
from pipelines.models import Artifact, NodeRunOutput, Run, Status, Worker
from pipelines.services import start_run
from platform_site.common.errors import InvalidGraph

pytestmark = pytest.mark.django_db

MACHINE = {"device": "cpu", "memory_bytes": 8 * 2**30, "flops": {"float32": 1e11, "bfloat16": 2e11}, "threads": 2}
BASE = "local:tiny"
ROWS = 200


@pytest.fixture(autouse=True)
def _model_and_worker(settings, tmp_path: Path, tiny_model_folder: Path) -> None:  # noqa: F811
    shutil.copytree(tiny_model_folder, tmp_path / "roots" / "tiny")
    settings.ENV = settings.ENV.model_copy(
        update={"model_roots": [str(tmp_path / "roots")], "device_hour_prices": {"cpu": 3.6}}
    )
    for queue in ("cpu", "gpu"):
        Worker.objects.create(name=queue, queue=queue, profile=MACHINE, expires_at=timezone.now() + timedelta(minutes=1))


@pytest.fixture
def dataset(user) -> str:
    answer = {"role": "assistant", "content": "a number " * 9}
    rows = [{"messages": [{"role": "user", "content": f"What is {number}?"}, answer]} for number in range(ROWS)]
    lines = [json.dumps(row) for row in rows]
    upload = SimpleUploadedFile("numbers.jsonl", "\n".join(lines).encode())
    version = import_upload(user=user, upload=upload, name="numbers").version
    return f"dataset:{version.dataset_id}@{version.number}"


def estimate(user, graph: dict[str, object], *, ignore_cache: bool = False) -> RunEstimate:
    """Have the question answered in this process, which has torch already."""
    question = ask_about(user=user, graph=graph, ignore_cache=ignore_cache)
    return priced(question, estimate_nodes(question, registry()))


def graph(dataset: str, **training: object) -> dict[str, object]:
    configs = {
        "dataset": ("DatasetAgent", {"file_path": dataset}),
        "preprocessing": ("PreprocessingAgent", {"base_model": BASE}),
        "training": ("TrainingAgent", {"lora_dropout": 0, "target_modules": "all-linear", **training}),
        "export": ("ExportAgent", {}),
    }
    names = list(configs)
    return {
        "nodes": [{"agent_name": name, "agent_class": agent, "config": config} for name, (agent, config) in configs.items()],
        "edges": [{"from_agent": start, "to_agent": end} for start, end in pairwise(names)],
    }


def test_every_node_is_estimated_from_the_files_counts(user, dataset: str) -> None:
    answer = estimate(user, graph(dataset, epochs=2))
    nodes = {node.node: node for node in answer.nodes}
    assert list(nodes) == ["dataset", "preprocessing", "training", "export"]
    characters = ROWS * (len("What is 100?") + len("a number " * 9))
    assert nodes["training"].tokens == pytest.approx(2 * 0.9 * (characters / 3.8 + 18 * ROWS), rel=0.05)
    assert nodes["training"].steps == 2 * 45  # 180 rows, 4 at once
    assert 300e6 < nodes["training"].memory_bytes < 1e9
    assert "guessed from the characters" in nodes["preprocessing"].notes[0]
    assert answer.seconds == pytest.approx(sum(node.seconds for node in answer.nodes))
    assert answer.cost == pytest.approx(answer.seconds / 1000)


def test_a_known_result_costs_nothing_and_its_own_counts_are_used(user, dataset: str) -> None:
    document = graph(dataset)
    run = start_run(user=user, graph=document).run
    first = run.node_runs.get(node="dataset")
    give(first, "dataset", Artifact.Kind.DATASET, {"rows": 77, "characters": 7_000, "format": "chat"})
    answer = estimate(user, document)
    assert [node.is_done for node in answer.nodes] == [True, False, False, False]
    assert answer.nodes[0].seconds == 0
    assert answer.nodes[1].tokens == int(7_000 / 3.8 + 18 * 77)
    assert not any(node.is_done for node in estimate(user, document, ignore_cache=True).nodes)


def give(node_run, port: str, kind: str, metadata: dict[str, object]) -> None:
    artifact = Artifact.objects.create(
        owner=node_run.run.owner, kind=kind, name=port, uri="content/x", sha256="ab" * 32, size_bytes=1, metadata=metadata
    )
    NodeRunOutput.objects.create(node_run=node_run, port=port, artifact=artifact)
    type(node_run).objects.filter(pk=node_run.pk).update(status=Status.SUCCEEDED, finished_at=timezone.now())


def test_what_cannot_be_known_is_said_and_not_made_up(user, dataset: str) -> None:
    Worker.objects.update(profile={})
    answer = estimate(user, graph(dataset))
    training = answer.nodes[2]
    assert training.tokens is not None
    assert (training.seconds, answer.seconds, answer.cost) == (None, None, None)
    assert training.notes == ["No worker has measured its machine yet."]


def test_settings_that_do_not_fit_the_model_are_named(user, dataset: str) -> None:
    training = estimate(user, graph(dataset, target_modules="no_such_proj")).nodes[2]
    assert "target_modules must be among" in training.notes[0]


def test_a_graph_that_could_not_run_gets_its_problems(user) -> None:
    with pytest.raises(InvalidGraph) as refused:
        ask_about(user=user, graph=graph("dataset:5f0c4f4e-8d3c-4c1b-9d53-0d6f5a1f7d11", lora_r=0))
    assert {problem.node for problem in refused.value.errors} == {"dataset", "training"}


def test_the_endpoint_takes_the_body_of_a_job_and_starts_nothing(user, dataset: str) -> None:
    client = APIClient()
    client.force_authenticate(user)
    response = client.post("/api/v1/jobs/estimate", graph(dataset), format="json")
    assert response.status_code == 200, response.json()
    answer = response.json()
    assert set(answer) == set(EstimateSerializer().fields)
    training = answer["nodes"][2]
    assert (training["node"], training["fits"], answer["currency"]) == ("training", True, "EUR")
    assert answer["machines"]["gpu"]["flops"]["bfloat16"] == 2e11
    assert not Run.objects.exists()


def test_a_stranger_cannot_estimate_with_my_data(other_user, dataset: str) -> None:
    client = APIClient()
    client.force_authenticate(other_user)
    response = client.post("/api/v1/jobs/estimate", graph(dataset), format="json")
    assert response.status_code == 400
    assert response.json()["errors"][0]["node"] == "dataset"


def test_the_longest_name_gives_the_price(settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"device_hour_prices": {"NVIDIA": 1.0, "NVIDIA H100": 2.5}})
    assert price_of("NVIDIA H100 80GB HBM3") == 2.5
    assert price_of("NVIDIA L4") == 1.0
    assert price_of("cpu") is None
