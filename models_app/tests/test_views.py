"""The registry over REST."""

from __future__ import annotations

import io
import uuid
import zipfile

import pytest
from rest_framework.test import APIClient

from models_app.tests.factories import BASE, ModelVersionFactory, RegisteredModelFactory
from models_app.tests.registry import PARITY, VERDICT, Registry

pytestmark = pytest.mark.django_db
URL = "/api/v1/models"


def content_of(response) -> bytes:
    return b"".join(response.streaming_content)


def test_the_list_holds_models_with_their_versions_newest_first(api_client: APIClient, registry: Registry) -> None:
    body = api_client.get(URL).json()

    assert body["next"] is None
    assert {model["name"] for model in body["results"]} == {BASE, "orders"}
    orders = next(model for model in body["results"] if model["name"] == "orders")
    assert [(version["number"], version["kind"]) for version in orders["versions"]] == [(2, "merged"), (1, "adapter")]
    assert orders["versions"][1]["id"] == str(registry.adapter.pk)
    assert orders["versions"][1]["size_bytes"] == 10_242
    assert orders["versions"][0]["parent"] == str(registry.adapter.pk)


def test_the_list_can_be_narrowed_to_a_kind(api_client: APIClient, registry: Registry) -> None:
    (model,) = api_client.get(URL, {"kind": "adapter"}).json()["results"]

    assert [version["kind"] for version in model["versions"]] == ["adapter"]


def test_an_unknown_kind_is_refused(api_client: APIClient) -> None:
    response = api_client.get(URL, {"kind": "onnx"})

    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "kind"


def test_the_list_is_paged_by_cursor(api_client: APIClient, user) -> None:
    for _ in range(5):
        RegisteredModelFactory(owner=user)

    first = api_client.get(URL, {"limit": 3}).json()
    second = api_client.get(first["next"]).json()

    names = [model["name"] for page in (first, second) for model in page["results"]]
    assert (len(first["results"]), len(set(names)), second["next"]) == (3, 5, None)


def test_the_list_takes_as_many_queries_for_many_models_as_for_one(
    api_client: APIClient, user, django_assert_max_num_queries
) -> None:
    for _ in range(10):
        ModelVersionFactory(model__owner=user)

    with django_assert_max_num_queries(6):
        api_client.get(URL)


def test_a_version_shows_lineage_scores_comparisons_and_files(api_client: APIClient, registry: Registry) -> None:
    body = api_client.get(f"{URL}/{registry.adapter.pk}").json()

    assert body["model"]["name"] == "orders"
    assert body["parent"] == {"id": str(registry.base.pk), "name": BASE, "number": 1, "kind": "base"}
    assert [item["id"] for item in body["derived"]] == [str(registry.merged.pk)]
    assert body["metrics"] == {"final_loss": 0.125}
    assert body["evaluations"][0]["scores"]["exact_match"] == 0.97
    assert isinstance(body["evaluations"][0]["scores"]["rows"], int)
    assert body["comparisons"][0]["verdict"] == VERDICT
    assert [entry["path"] for entry in body["files"]] == ["adapter_config.json", "adapter_model.safetensors"]
    assert [item["format"] for item in body["downloads"]] == ["adapter", "merged"]
    assert body["run"] == str(registry.run.pk)


def test_a_merged_version_shows_the_scores_of_its_adapter(api_client: APIClient, registry: Registry) -> None:
    body = api_client.get(f"{URL}/{registry.merged.pk}").json()

    assert body["evaluations"][0]["model_version"] == str(registry.adapter.pk)
    assert body["comparisons"][0]["subject_sha256"] == registry.adapter.sha256
    assert body["metadata"]["parity"] == PARITY


def test_a_base_has_no_files(api_client: APIClient, registry: Registry) -> None:
    body = api_client.get(f"{URL}/{registry.base.pk}").json()

    assert (body["files"], body["downloads"], body["artifact"], body["size_bytes"]) == ([], [], None, None)
    assert body["evaluations"][0]["scores"]["exact_match"] == 0.0


def test_a_download_is_a_zip_of_the_folder(api_client: APIClient, registry: Registry) -> None:
    response = api_client.get(f"{URL}/{registry.adapter.pk}/download", headers={"Accept": "application/zip"})

    archive = zipfile.ZipFile(io.BytesIO(content_of(response)))
    assert archive.testzip() is None
    assert archive.read("adapter_model.safetensors") == bytes(range(256)) * 40
    assert 'filename="orders-v1-adapter.zip"' in response["Content-Disposition"]


def test_the_merged_form_of_an_adapter_is_found_by_format(api_client: APIClient, registry: Registry) -> None:
    response = api_client.get(f"{URL}/{registry.adapter.pk}/download", {"format": "merged"})
    back = api_client.get(f"{URL}/{registry.merged.pk}/download", {"format": "adapter"})

    assert zipfile.ZipFile(io.BytesIO(content_of(response))).read("model.safetensors") == b"weights"
    assert "adapter_model.safetensors" in zipfile.ZipFile(io.BytesIO(content_of(back))).namelist()


def test_one_file_can_be_had_in_ranges(api_client: APIClient, registry: Registry) -> None:
    query = {"file": "adapter_model.safetensors"}
    response = api_client.get(f"{URL}/{registry.adapter.pk}/download", query, headers={"Range": "bytes=250-259"})

    assert response.status_code == 206
    assert content_of(response) == bytes([250, 251, 252, 253, 254, 255, 0, 1, 2, 3])
    assert response["Content-Range"] == "bytes 250-259/10240"


def test_what_was_not_exported_is_404_and_says_how_to_get_it(api_client: APIClient, user) -> None:
    version = ModelVersionFactory(model__owner=user)

    response = api_client.get(f"{URL}/{version.pk}/download", {"format": "merged"})

    assert response.status_code == 404
    assert "Run an ExportAgent with formats: [merged]" in response.json()["detail"]


@pytest.mark.parametrize("file", ["../secret", "/etc/passwd", "no-such-file"])
def test_a_file_outside_the_folder_is_404(api_client: APIClient, registry: Registry, file: str) -> None:
    response = api_client.get(f"{URL}/{registry.adapter.pk}/download", {"file": file})

    assert response.status_code == 404
    assert response.json()["code"] == "not_found"


def test_a_format_that_is_not_built_is_refused(api_client: APIClient, registry: Registry) -> None:
    response = api_client.get(f"{URL}/{registry.adapter.pk}/download", {"format": "gguf"})

    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "format"


def test_a_base_cannot_be_downloaded(api_client: APIClient, registry: Registry) -> None:
    response = api_client.get(f"{URL}/{registry.base.pk}/download")

    assert response.status_code == 404
    assert "keeps its reference" in response.json()["detail"]


@pytest.mark.parametrize("path", ["", "/download", "/card"])
def test_a_strangers_model_is_404(api_client: APIClient, path: str) -> None:
    version = ModelVersionFactory()

    assert api_client.get(f"{URL}/{version.pk}{path}").status_code == 404
    assert api_client.get(f"{URL}/{uuid.uuid4()}{path}").status_code == 404
    assert api_client.get(URL).json()["results"] == []


def test_without_a_token_nothing_is_shown() -> None:
    response = APIClient().get(URL)

    assert response.status_code == 401
    assert response.json()["code"] == "not_authenticated"


def test_the_card_is_markdown(api_client: APIClient, registry: Registry) -> None:
    response = api_client.get(f"{URL}/{registry.adapter.pk}/card", headers={"Accept": "text/markdown"})

    assert response["Content-Type"] == "text/markdown; charset=utf-8"
    assert "# orders, version 1" in response.content.decode()


def compare(client: APIClient, *ids: object):
    return client.get(f"{URL}/compare", {"ids": ",".join(map(str, ids))})


def test_versions_stand_side_by_side_in_the_order_asked_for(api_client: APIClient, registry: Registry) -> None:
    body = compare(api_client, registry.adapter.pk, registry.base.pk).json()

    assert [version["kind"] for version in body["versions"]] == ["adapter", "base"]
    assert {row["name"]: row["values"] for row in body["differing"]} == {
        "kind": ["adapter", "base"],
        "learning_rate": [0.001, None],
        "lora_r": [16, None],
    }
    (scores,) = body["scores"]
    assert [entry and entry["scores"]["exact_match"] for entry in scores["evaluations"]] == [0.97, 0.0]
    assert [item["verdict"] for item in body["comparisons"]] == [VERDICT]


def test_equal_settings_are_counted_and_not_listed(api_client: APIClient, registry: Registry, user) -> None:
    twin = ModelVersionFactory(model=registry.adapter.model, number=9, artifact=registry.adapter.artifact)
    body = compare(api_client, registry.adapter.pk, twin.pk).json()

    assert (body["differing"], body["equal"]) == ([], 3)


@pytest.mark.parametrize("ids", ["", "x,y", "{0}", "{0},{0}"], ids=["none", "no ids", "one", "one twice"])
def test_a_comparison_needs_two_versions(api_client: APIClient, registry: Registry, ids: str) -> None:
    response = compare(api_client, ids.format(registry.adapter.pk))

    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "ids"


def test_a_strangers_version_is_not_compared(api_client: APIClient, registry: Registry, other_user) -> None:
    theirs = ModelVersionFactory(model__owner=other_user)

    assert compare(api_client, registry.adapter.pk, theirs.pk).status_code == 404
