from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from django.conf import settings as django_settings

from celery_workers.contract import UserInputError
from celery_workers.modeling import bundled
from models_app.models import ModelVersion, RegisteredModel
from pipelines.models import Artifact
from pipelines.references import ReferenceKind, Resolution, UnresolvedReference, materialize, resolve
from pipelines.tests.factories import ArtifactFactory
from platform_site.common import store

pytestmark = pytest.mark.django_db


def base_model(value: str, user) -> Resolution:
    return resolve(value, ReferenceKind.BASE_MODEL, user=user)


def refusal(value: str, user) -> str:
    with pytest.raises(UnresolvedReference) as refused:
        base_model(value, user)
    return refused.value.detail


@pytest.fixture
def model_root(settings, tmp_path: Path) -> Path:
    """A folder under MODEL_ROOTS with one model."""
    folder = tmp_path / "roots" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    settings.ENV = settings.ENV.model_copy(update={"model_roots": [str(tmp_path / "roots")]})
    return folder


def model_version(user, kind: str, artifact: Artifact | None = None, base: str = "") -> ModelVersion:
    model, _ = RegisteredModel.objects.get_or_create(owner=user, name="m")
    number = model.versions.count() + 1
    return ModelVersion.objects.create(model=model, number=number, kind=kind, artifact=artifact, base_model=base)


def test_a_bundled_model_has_its_own_place_and_digest(user, tmp_path: Path) -> None:
    value = "bundled:smollm2-135m-instruct"
    resolution = base_model(value, user)
    assert resolution.digest == bundled.digest("smollm2-135m-instruct")
    place = Path(django_settings.VAR_DIR) / "models" / "bundled" / "smollm2-135m-instruct"
    assert materialize(value, resolution, folder=tmp_path) == place
    assert "there is no bundled model 'nope'" in refusal("bundled:nope", user)


def test_a_local_model_is_pinned_to_its_content(user, model_root: Path, tmp_path: Path) -> None:
    resolution = base_model("local:tiny", user)
    assert materialize("local:tiny", resolution, folder=tmp_path) == model_root
    (model_root / "model.safetensors").write_bytes(b"other weights")
    assert base_model("local:tiny", user).digest != resolution.digest
    with pytest.raises(UserInputError, match="has changed since"):
        materialize("local:tiny", resolution, folder=tmp_path)


def test_local_models_lie_under_their_root_and_are_safetensors(user, model_root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (model_root.parent / "link").symlink_to(tmp_path / "outside")
    assert "no folder 'link'" in refusal("local:link", user)
    assert "no folder 'missing'" in refusal("local:missing", user)
    (model_root / "model.safetensors").rename(model_root / "pytorch_model.bin")
    assert "no *.safetensors" in refusal("local:tiny", user)
    (model_root / "config.json").unlink()
    assert "no config.json" in refusal("local:tiny", user)


def test_without_roots_there_are_no_local_models(user) -> None:
    assert "needs MODEL_ROOTS" in refusal("local:tiny", user)


def test_a_merged_model_version_is_fetched_once_and_verified(user, other_user, model_root: Path, tmp_path: Path) -> None:
    stored = store.store_path(model_root)
    artifact = ArtifactFactory(
        owner=user,
        kind=Artifact.Kind.MODEL,
        uri=stored.uri,
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
        is_folder=True,
        manifest=stored.manifest,
    )
    value = f"model:{model_version(user, 'merged', artifact).pk}"
    resolution = base_model(value, user)
    paths = {materialize(value, resolution, folder=tmp_path) for _ in range(2)}
    assert len(paths) == 1
    assert (paths.pop() / "model.safetensors").read_bytes() == b"weights"
    assert "there is no model:" in refusal(value, other_user)
    assert "there is no model:" in refusal(f"model:{uuid.uuid4()}", user)


def test_an_adapter_is_no_base_model_and_a_base_version_is_its_reference(user) -> None:
    assert "is of kind adapter" in refusal(f"model:{model_version(user, 'adapter', ArtifactFactory(owner=user)).pk}", user)
    version = model_version(user, "base", base="bundled:smollm2-135m-instruct")
    assert base_model(f"model:{version.pk}", user).source == {"type": "bundled", "name": "smollm2-135m-instruct"}


def test_a_hub_model_without_the_hub_is_refused_with_a_way_out(user) -> None:
    detail = refusal("meta-llama/Llama-2-7b-hf", user)
    assert "meta-llama/Llama-2-7b-hf is not on this server" in detail
    assert "bundled:smollm2-135m-instruct" in detail


def test_a_hub_model_downloaded_before_is_used_offline_at_its_commit(user, tmp_path: Path) -> None:
    commit = "a" * 40
    repository = Path(django_settings.VAR_DIR) / "models" / "hub" / "models--owner--tiny"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"weights")
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    resolution = base_model("owner/tiny", user)
    assert resolution.digest == f"hub:owner/tiny@{commit}"
    assert materialize("owner/tiny", resolution, folder=tmp_path) == snapshot
