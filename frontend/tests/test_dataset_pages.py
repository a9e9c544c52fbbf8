from __future__ import annotations

import pytest

from datasets_app.models import Dataset
from datasets_app.tests.factories import DatasetFactory, DatasetVersionFactory
from frontend.dataset_pages import TABS
from frontend.lineage import BOX_HEIGHT, BOX_WIDTH, DRAWN_VERSIONS, GAP_X, GAP_Y, MARGIN, Lineage, made_by
from frontend.tests import data_scenes

pytestmark = pytest.mark.django_db

PAGES = ["", "/report", "/columns", "/duplicates", "/versions"]


@pytest.fixture
def signed_in(client, user):
    client.force_login(user)
    return client


def column(place: int) -> int:
    return MARGIN + place * (BOX_WIDTH + GAP_X)


def lane(place: int) -> int:
    return MARGIN + place * (BOX_HEIGHT + GAP_Y)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_of_a_dataset_shows_the_version_that_is_asked_for(signed_in, user, page: str) -> None:
    dataset = DatasetFactory(owner=user, name="orders")
    for number in (1, 2):
        DatasetVersionFactory(dataset=dataset, number=number)

    newest = signed_in.get(f"/datasets/{dataset.pk}{page}")
    older = signed_in.get(f"/datasets/{dataset.pk}{page}?version=1")

    assert (newest.status_code, newest.context["version"].number) == (200, 2)
    assert (older.status_code, older.context["version"].number) == (200, 1)
    assert "This is version 1" in older.content.decode()
    html = newest.content.decode()
    assert html.count('aria-current="page"') == 2  # of the site's pages and of the dataset's
    assert " style=" not in html
    for title in TABS.values():
        assert f">{title}</a>" in html


@pytest.mark.parametrize("page", PAGES)
def test_a_dataset_without_versions_says_what_to_do(signed_in, user, page: str) -> None:
    dataset = Dataset.objects.create(owner=user, name="orders")

    assert "Upload a file" in signed_in.get(f"/datasets/{dataset.pk}{page}").content.decode()


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_there_or_not_ones_own_is_not_found(signed_in, client, user, other_user, page: str) -> None:
    mine, theirs = DatasetVersionFactory(dataset__owner=user), DatasetVersionFactory(dataset__owner=other_user)

    assert signed_in.get(f"/datasets/{mine.dataset_id}{page}?version=9").status_code == 404
    assert signed_in.get(f"/datasets/{theirs.dataset_id}{page}").status_code == 404
    client.logout()
    assert client.get(f"/datasets/{mine.dataset_id}{page}").status_code == 302


def test_a_file_that_waits_is_listed_and_has_a_page_for_its_owner(signed_in, client, user, other_user) -> None:
    waiting = data_scenes.waiting_file(user)

    listed = signed_in.get("/datasets").content.decode()
    page = signed_in.get(f"/datasets/uploads/{waiting.pk}")

    assert f"/datasets/uploads/{waiting.pk}" in listed
    assert "No datasets yet" not in listed
    assert f'data-url="/api/v1/datasets/uploads/{waiting.pk}/columns"' in page.content.decode()
    client.force_login(other_user)
    assert client.get(f"/datasets/uploads/{waiting.pk}").status_code == 404


def test_versions_go_on_to_the_right_and_branch_below(user) -> None:
    newest = data_scenes.dataset_with_versions(user)
    versions = list(newest.dataset.versions.select_related("parent").order_by("-number"))

    lineage = Lineage.of(versions)

    assert [(box.version.number, box.x, box.y) for box in lineage.boxes] == [
        (1, column(0), lane(0)), (2, column(1), lane(0)), (3, column(2), lane(0)), (4, column(1), lane(1)),
    ]  # fmt: skip
    assert len(lineage.lines) == 3
    assert [made_by(version) for version in versions] == [
        "1 fix applied", f"{len(versions[1].changes['fixes'])} fixes applied", "3 fixes applied", "uploaded",
    ]  # fmt: skip
    assert lineage.width == column(2) + BOX_WIDTH + MARGIN


def test_of_very_many_versions_the_newest_are_drawn(user) -> None:
    dataset = DatasetFactory(owner=user)
    versions = [DatasetVersionFactory(dataset=dataset, number=number) for number in range(1, DRAWN_VERSIONS + 5)]

    lineage = Lineage.of(versions[::-1])

    assert [box.version.number for box in lineage.boxes] == list(range(5, DRAWN_VERSIONS + 5))


@pytest.mark.parametrize(
    ("query", "chosen"), [("", (2, 3, False)), ("?from=1&to=3", (1, 3, True)), ("?from=9&to=x", (2, 3, False))]
)
def test_two_versions_are_chosen_to_compare(signed_in, user, query: str, chosen: tuple[int, int, bool]) -> None:
    dataset = DatasetFactory(owner=user)
    for number in (1, 2, 3):
        DatasetVersionFactory(dataset=dataset, number=number)

    context = signed_in.get(f"/datasets/{dataset.pk}/versions{query}").context

    assert (context["compare_from"], context["compare_to"], context["is_asked"]) == chosen
