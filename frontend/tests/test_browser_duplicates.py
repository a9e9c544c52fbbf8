"""Reviewing near duplicates in a real Chromium, found by a real process."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from datasets_app.models import DatasetVersion, PairDecision
from frontend.tests import data_scenes
from frontend.tests.browsing import Site
from platform_site.models import User

pytestmark = pytest.mark.browser

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
LONG = "Please write me a poem about the sea, the stars and everything that lies between them, in four lines"


@pytest.fixture
def version(ada: User) -> DatasetVersion:
    """A request, and twelve that are nearly the same."""
    rows = [{"prompt": f"{LONG} {sign}", "completion": "ok"} for sign in "abcdefghijklm"]
    return data_scenes.upload_rows(ada, [*rows, {"prompt": "two large lattes", "completion": "2 x latte"}])


def look_for_pairs(site: Site, user: User, version: DatasetVersion, **options: object) -> Page:
    page = site.visit(f"/datasets/{version.dataset_id}/duplicates", user=user, **options)
    page.get_by_role("button", name="Look for them").click()
    expect(page.locator(".pair")).not_to_have_count(0, timeout=60_000)
    return page


def test_pairs_are_decided_by_keys_and_applied_as_a_version(site: Site, ada: User, version: DatasetVersion) -> None:
    page = look_for_pairs(site, ada, version)
    expect(page.locator(".pair")).to_have_count(10)
    expect(page.locator("#pager-place")).to_have_text("Pairs 1 to 10 of 12")
    expect(page.locator(".pair").first.locator("[data-side=second] mark")).to_have_count(1)

    page.keyboard.press("2")
    page.keyboard.press("3")
    page.keyboard.press("1")
    page.keyboard.press("k")
    expect(page.locator(".pair").nth(2)).to_be_focused()
    expect(page.locator("#review-sum")).to_contain_text(
        "At most 2 rows would be dropped, 1 pair kept as they are, 9 undecided stay."
    )
    page.wait_for_load_state("networkidle")  # the page shows decisions before the server has them
    page.reload()
    expect(page.locator("#pager-place")).to_have_text("Pairs 1 to 9 of 9")
    assert sorted(PairDecision.objects.values_list("decision", flat=True)) == ["drop_first", "drop_second", "keep_both"]

    page.get_by_role("button", name="Apply as a new version").click()

    expect(page.locator("#toasts")).to_contain_text("Version 2 was made: 12 of 14 rows.")
    made = DatasetVersion.objects.get(number=2)
    assert (made.parent, made.changes["fixes"][0]["code"]) == (version, "near_duplicate")


def test_the_rest_is_decided_at_once_and_a_decision_is_taken_back(site: Site, ada: User, version: DatasetVersion) -> None:
    page = look_for_pairs(site, ada, version)
    page.get_by_role("button", name="Drop the second of all undecided").click()
    expect(page.locator("#pair-list")).to_contain_text("Every pair is decided.")
    assert PairDecision.objects.count() == 12

    page.get_by_role("button", name="all 12").click()
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#pager-place")).to_have_text("Pairs 11 to 12 of 12")
    with page.expect_response("**/decisions"):  # the page shows a decision before the server has it
        page.locator(".pair").first.get_by_role("button", name="Drop the second").click()

    expect(page.get_by_role("button", name="undecided 1")).to_be_visible()
    assert PairDecision.objects.count() == 11


def test_without_pairs_the_page_says_so(site: Site, ada: User, version: DatasetVersion) -> None:
    page = site.visit(f"/datasets/{version.dataset_id}/duplicates", user=ada)
    page.get_by_label("Texts that share at least").select_option("1")
    page.get_by_role("button", name="Look for them").click()
    expect(page.get_by_role("heading", name="No near duplicates")).to_be_visible(timeout=60_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_keeps_to_wcag_and_to_a_phone(site: Site, ada: User, version: DatasetVersion, scheme: str) -> None:
    page = look_for_pairs(site, ada, version, scheme=scheme)
    page.keyboard.press("2")
    broken = Axe().run(page, options=WCAG).response["violations"]
    assert [(item["id"], [node["target"] for node in item["nodes"]][:3]) for item in broken] == []
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
