from __future__ import annotations

from uuid import uuid4

import pytest

from datasets_app.tests.factories import DatasetFactory, DatasetVersionFactory
from frontend.token_page import tokens_address
from models_app.tests.factories import BaseVersionFactory

pytestmark = pytest.mark.django_db


def graph(file_path: str, **config: object) -> dict[str, list[dict[str, object]]]:
    """Return a graph of a dataset and a preprocessing node."""
    nodes = [
        {"agent_name": "dataset", "agent_class": "DatasetAgent", "config": {"file_path": file_path}},
        {"agent_name": "preparing", "agent_class": "PreprocessingAgent", "config": {"base_model": "local:a b", **config}},
    ]
    return {"nodes": nodes, "edges": []}


def test_a_preprocessing_node_links_to_its_tokens_with_its_options() -> None:
    dataset = uuid4()

    address = tokens_address(graph(f"dataset:{dataset}@2", template="alpaca", max_length_tokens=64), "preparing")

    assert address == f"/datasets/{dataset}/tokens?version=2&model=local%3Aa+b&template=alpaca&max_length_tokens=64"


@pytest.mark.parametrize("file_path", ["example:orders", "dataset:nonsense", "s3://datasets/rows.csv"])
def test_there_is_no_link_where_the_data_is_no_dataset(file_path: str) -> None:
    assert tokens_address(graph(file_path), "preparing") == ""


def test_the_page_offers_the_models_and_versions_at_hand(client, user) -> None:
    dataset = DatasetFactory(owner=user)
    DatasetVersionFactory(dataset=dataset, number=1)
    DatasetVersionFactory(dataset=dataset, number=2)
    base = BaseVersionFactory(model__owner=user)
    strangers = BaseVersionFactory()
    client.force_login(user)

    page = client.get(f"/datasets/{dataset.pk}/tokens?version=1&row=3&template=alpaca").content.decode()

    assert '<option value="bundled:smollm2-135m-instruct">' in page
    assert f'<option value="model:{base.pk}">' in page
    assert str(strangers.pk) not in page
    assert '<option value="1" selected>' in page
    assert "<option selected>alpaca</option>" in page


def test_a_stranger_has_no_page(client, user, other_user) -> None:
    client.force_login(other_user)

    assert client.get(f"/datasets/{DatasetFactory(owner=user).pk}/tokens").status_code == 404
