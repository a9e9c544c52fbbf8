"""What a node's outputs become in the registry."""

from __future__ import annotations

import pytest

from models_app.models import Evaluation, ModelVersion, RegisteredModel
from models_app.registration import register_outputs
from models_app.tests.factories import BASE, ModelArtifactFactory
from pipelines.models import Artifact, NodeRun
from pipelines.tests.factories import ArtifactFactory, NodeRunFactory, RunFactory

pytestmark = pytest.mark.django_db
DIGEST = "d" * 64


@pytest.fixture
def training() -> NodeRun:
    run = RunFactory(name="orders")
    reference = {BASE: {"kind": "base_model", "digest": DIGEST, "source": {}}}
    NodeRunFactory(run=run, node="preprocessing", agent="PreprocessingAgent", references=reference)
    return NodeRunFactory(run=run, node="training")


def make_model(node_run: NodeRun, **fields: object) -> Artifact:
    metadata = {"model_kind": "adapter", "base_model": BASE, **fields.pop("metadata", {})}
    return ModelArtifactFactory(owner=node_run.run.owner, node_run=node_run, metadata=metadata, **fields)


def make_report(node_run: NodeRun, *subjects: dict) -> Artifact:
    metadata = {"report_kind": "evaluation", "examples_sha256": "e" * 64, "subjects": list(subjects)}
    return ArtifactFactory(owner=node_run.run.owner, node_run=node_run, kind=Artifact.Kind.REPORT, metadata=metadata)


def test_an_adapter_gets_a_version_under_the_runs_name_and_its_base_becomes_its_parent(training: NodeRun) -> None:
    artifact = make_model(training, metadata={"final_loss": 0.2, "lora_r": 16, "method": "lora", "precision": "bfloat16"})

    register_outputs(node_run=training, outputs=[artifact])

    version = ModelVersion.objects.get(kind="adapter")
    assert (version.model.name, version.number, version.run, version.node) == ("orders", 1, training.run, "training")
    assert (version.artifact, version.sha256, version.metrics) == (artifact, artifact.sha256, {"final_loss": 0.2})
    assert (version.parent.kind, version.parent.model.name, version.parent.sha256) == ("base", BASE, DIGEST)
    assert version.parent.artifact is None


def test_a_run_without_a_name_names_the_model_after_its_id() -> None:
    training = NodeRunFactory()

    register_outputs(node_run=training, outputs=[make_model(training)])

    assert RegisteredModel.objects.filter(name=f"run-{str(training.run_id)[:8]}").exists()


def test_numbers_rise_with_new_content_and_the_base_stays_one_version(training: NodeRun) -> None:
    for _ in range(3):
        register_outputs(node_run=training, outputs=[make_model(training)])

    assert list(ModelVersion.objects.filter(kind="adapter").order_by("number").values_list("number", flat=True)) == [1, 2, 3]
    assert ModelVersion.objects.filter(kind="base").count() == 1


def test_content_that_is_registered_already_makes_no_version(training: NodeRun) -> None:
    first = make_model(training)
    register_outputs(node_run=training, outputs=[first])

    again = make_model(training, sha256=first.sha256)
    register_outputs(node_run=training, outputs=[again])

    assert ModelVersion.objects.get(kind="adapter").artifact == first


def test_the_same_content_of_another_owner_is_another_version(training: NodeRun) -> None:
    first = make_model(training)
    register_outputs(node_run=training, outputs=[first])
    other = NodeRunFactory()

    register_outputs(node_run=other, outputs=[make_model(other, sha256=first.sha256)])

    assert ModelVersion.objects.filter(kind="adapter", sha256=first.sha256).count() == 2


def test_a_merged_models_parent_is_the_adapter_it_was_merged_from(training: NodeRun) -> None:
    adapter = make_model(training)
    register_outputs(node_run=training, outputs=[adapter])
    export = NodeRunFactory(run=training.run, node="export", agent="ExportAgent")
    parity = {"positions": 200, "max_logit_difference": 1e-4, "top1_agreement": 1.0, "kl_nats": 1e-9}
    source = {"source_sha256": adapter.sha256}
    copy = make_model(export, sha256=adapter.sha256, metadata=source)
    merged = make_model(export, metadata={"model_kind": "merged", "parity": parity, **source})

    register_outputs(node_run=export, outputs=[merged, copy])

    version = ModelVersion.objects.get(kind="merged")
    assert version.parent == ModelVersion.objects.get(kind="adapter")
    assert (version.model, version.number) == (version.parent.model, 2)
    assert version.metrics["parity_max_logit_difference"] == 1e-4


def test_a_base_whose_content_has_changed_gets_a_new_version(training: NodeRun) -> None:
    register_outputs(node_run=training, outputs=[make_model(training)])
    later = NodeRunFactory(
        run__owner=training.run.owner, references={BASE: {"kind": "base_model", "digest": "f" * 64, "source": {}}}
    )

    register_outputs(node_run=later, outputs=[make_model(later)])

    bases = ModelVersion.objects.filter(kind="base").order_by("number")
    assert [(base.number, base.sha256) for base in bases] == [(1, DIGEST), (2, "f" * 64)]


def test_a_model_of_the_registry_as_base_is_the_parent_itself(training: NodeRun) -> None:
    merged = make_model(training, metadata={"model_kind": "merged"})
    register_outputs(node_run=training, outputs=[merged])
    base = ModelVersion.objects.get(kind="merged")

    register_outputs(node_run=training, outputs=[make_model(training, metadata={"base_model": f"model:{base.pk}"})])

    assert ModelVersion.objects.get(kind="adapter").parent == base


def test_every_known_subject_of_an_evaluation_gets_its_scores(training: NodeRun) -> None:
    adapter = make_model(training)
    register_outputs(node_run=training, outputs=[adapter])
    evaluation = NodeRunFactory(run=training.run, node="evaluation", agent="EvaluationAgent")
    base = {"role": "base", "model_kind": "base", "model_sha256": "w" * 64, "base_model": BASE, "scores": {"exact_match": 0.0}}
    tuned = {
        "role": "tuned",
        "model_kind": "adapter",
        "model_sha256": adapter.sha256,
        "base_model": BASE,
        "scores": {"exact_match": 0.97},
    }
    foreign = {**tuned, "model_sha256": "0" * 64}
    report = make_report(evaluation, base, tuned, foreign)

    register_outputs(node_run=evaluation, outputs=[report])
    register_outputs(node_run=evaluation, outputs=[report])

    found = {row.model_version.kind: row for row in Evaluation.objects.select_related("model_version")}
    assert found.keys() == {"base", "adapter"}
    assert Evaluation.objects.count() == 2
    assert found["adapter"].scores == {"exact_match": 0.97}
    assert (found["base"].report, found["base"].run, found["base"].examples_sha256) == (report, training.run, "e" * 64)


def test_other_outputs_register_nothing(training: NodeRun) -> None:
    comparison = ArtifactFactory(owner=training.run.owner, kind="report", metadata={"report_kind": "comparison"})

    register_outputs(node_run=training, outputs=[comparison, ArtifactFactory(owner=training.run.owner)])

    assert not RegisteredModel.objects.exists()
