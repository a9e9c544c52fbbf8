"""What a card says, and what it never lets through."""

from __future__ import annotations

import pytest

from models_app.cards import write_card
from models_app.models import ModelVersion
from models_app.tests.factories import ModelVersionFactory
from models_app.tests.registry import VERDICT, Registry
from pipelines.tests.factories import ArtifactFactory, NodeRunFactory

pytestmark = pytest.mark.django_db


def test_an_adapters_card_has_base_data_config_results_and_loading(user, registry: Registry) -> None:
    card = write_card(registry.adapter, user)

    assert card.startswith('---\nlibrary_name: peft\nbase_model: "bundled:smollm2-135m-instruct"\n')
    assert registry.adapter.sha256 in card
    assert f"**{VERDICT.replace('[', chr(92) + '[').replace(']', chr(92) + ']')}.**" in card
    assert "| exact match | 0 | 0.97 | 0.97 | 0.93 | 1 | 100 |" in card
    assert "| Exact match (0 to 1) | 0.97 | 0 |" in card
    assert "| Loss (nats per token) | 0.0625 | 2.5 |" in card
    assert "| dataset |  | 460 | – | `5e7" in card
    assert "| examples | preprocessing | 360 | 43210 |" in card
    assert '"learning_rate": 0.001' in card
    assert 'PeftModel.from_pretrained(base, "orders-v1-adapter")' in card
    assert "is a name of this platform, not of a hub" in card


def test_a_merged_models_card_has_parity_and_needs_no_peft(user, registry: Registry) -> None:
    card = write_card(registry.merged, user)

    assert "library_name: transformers" in card
    assert "| 203 | 0.000125 | 1 | 1.5e-09 |" in card
    assert "measured on the adapter that was merged" in card
    assert '"learning_rate": 0.001' in card
    assert "peft" not in card.lower()


def test_a_card_of_full_weights_tells_of_their_own_training(user, registry: Registry) -> None:
    first = _trained_in_full(user, registry.base, learning_rate=0.01)
    second = _trained_in_full(user, first, learning_rate=0.02)

    card = write_card(second, user)

    assert '"learning_rate": 0.02' in card
    assert '"learning_rate": 0.01' not in card
    assert 'AutoModelForCausalLM.from_pretrained("' in card


def _trained_in_full(user, parent: ModelVersion, *, learning_rate: float) -> ModelVersion:
    node_run = NodeRunFactory(run__owner=user, node="training", config={"method": "full", "learning_rate": learning_rate})
    artifact = ArtifactFactory(owner=user, node_run=node_run, kind="model", metadata={"model_kind": "merged"})
    return ModelVersionFactory(model__owner=user, kind="merged", parent=parent, artifact=artifact)


def test_a_bases_card_has_no_files_and_no_loading(user, registry: Registry) -> None:
    card = write_card(registry.base, user)

    assert "## Files" not in card
    assert "## Loading it" not in card
    assert "| Exact match (0 to 1) | 0 |" in card


def test_names_of_users_bring_no_markup_of_their_own(user) -> None:
    name = "x](javascript:alert(1)) <script>\n# heading"
    version = ModelVersionFactory(model__owner=user, model__name=name)

    card = write_card(version, user)

    assert "<script>" not in card.replace("\\<script\\>", "")
    assert "\n# heading" not in card
    assert "\\](javascript" in card


def test_a_code_fence_inside_a_config_does_not_end_the_block(user) -> None:
    version = ModelVersionFactory(model__owner=user)
    version.artifact.node_run = NodeRunFactory(run__owner=user, config={"template": "```\n# not a heading"})

    card = write_card(version, user)

    assert "````json\n" in card
