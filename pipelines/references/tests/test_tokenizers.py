"""The tokenizer of a model is brought without its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings as django_settings

from models_app.models import ModelVersion
from models_app.tests.factories import ModelVersionFactory, RegisteredModelFactory
from pipelines.models import Artifact
from pipelines.references import UnresolvedReference, find_tokenizer
from pipelines.tests.factories import ArtifactFactory
from platform_site.common import store

pytestmark = pytest.mark.django_db


def test_a_bundled_model_may_have_to_be_converted_first(user) -> None:
    found = find_tokenizer("bundled:smollm2-135m-instruct", user=user)

    assert found.bundled == "smollm2-135m-instruct"
    assert found.path == Path(django_settings.VAR_DIR) / "models" / "bundled" / "smollm2-135m-instruct"


def test_a_local_model_is_used_where_it_lies(user, settings, tmp_path: Path) -> None:
    folder = tmp_path / "roots" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    settings.ENV = settings.ENV.model_copy(update={"model_roots": [str(tmp_path / "roots")]})

    assert find_tokenizer("local:tiny", user=user).path == folder


def test_of_a_stored_model_only_the_small_files_are_fetched(user, other_user, tmp_path: Path) -> None:
    folder = tmp_path / "merged"
    folder.mkdir()
    for name, content in {"config.json": "{}", "tokenizer.json": '{"a": 1}', "model.safetensors": "weights"}.items():
        (folder / name).write_text(content)
    stored = store.store_path(folder)
    artifact = ArtifactFactory(
        kind=Artifact.Kind.MODEL, uri=stored.uri, sha256=stored.sha256, is_folder=True, manifest=stored.manifest
    )
    model = RegisteredModelFactory(owner=user)
    version = ModelVersionFactory(model=model, kind=ModelVersion.Kind.MERGED, artifact=artifact)

    found = find_tokenizer(f"model:{version.pk}", user=user)
    again = find_tokenizer(f"model:{version.pk}", user=user)

    assert sorted(path.name for path in found.path.iterdir()) == ["config.json", "tokenizer.json"]
    assert again == found
    with pytest.raises(UnresolvedReference, match="there is no model:"):
        find_tokenizer(f"model:{version.pk}", user=other_user)


def test_a_model_of_the_hub_that_is_not_here_is_refused_without_a_network(user) -> None:
    with pytest.raises(UnresolvedReference, match="not on this server"):
        find_tokenizer("owner/name", user=user)
