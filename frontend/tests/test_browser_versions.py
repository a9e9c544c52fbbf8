"""The report, its fixes, versions and their differences in a real Chromium."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from celery_workers.conftest import tiny_model_folder, tiny_tokenizer  # noqa: F401 - fixtures
from datasets_app.models import DatasetVersion
from datasets_app.tests.conftest import local_model  # noqa: F401 - a fixture
from frontend.tests import data_scenes
from frontend.tests.browsing import Site
from frontend.tests.data_scenes import MAIL
from platform_site.models import User

pytestmark = pytest.mark.browser

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}


@pytest.fixture
def version(ada: User) -> DatasetVersion:
    """Rows with a repetition, an empty answer, an address and an invisible character."""
    rows = [{"prompt": f"question {number}", "completion": f"answer {number}"} for number in range(20)]
    rows += [rows[3], {"prompt": "no answer", "completion": ""}, {"prompt": "who?", "completion": f"Write to {MAIL}."}]
    rows += [{"prompt": "hidden\u200b\x07 sign", "completion": "x"}]
    return data_scenes.upload_rows(ada, rows, name="flawed")


def report(site: Site, user: User, version: DatasetVersion, **options: object) -> Page:
    page = site.visit(f"/datasets/{version.dataset_id}/report", user=user, **options)
    expect(page.get_by_role("button", name="Apply fixes")).to_be_visible()
    expect(page.locator(".count")).not_to_have_count(0)
    return page


def check(page: Page) -> None:
    broken = Axe().run(page, options=WCAG).response["violations"]
    assert [(item["id"], [node["target"] for node in item["nodes"]][:3]) for item in broken] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_lists_every_problem_and_filters_by_code(
    site: Site, ada: User, version: DatasetVersion, scheme: str
) -> None:
    page = report(site, ada, version, scheme=scheme)
    expect(page.locator("#report-verdict")).to_contain_text("23 of 24 rows are fit to train on")
    expect(page.locator(".count")).to_have_count(4)
    expect(page.locator("#problem-rows tbody tr")).to_have_count(4)
    expect(page.locator("main")).not_to_contain_text(MAIL)

    page.locator(".count", has_text="email address").click()

    expect(page.locator("#problem-rows tbody tr")).to_have_count(1)
    expect(page.locator("#problem-rows tbody tr")).to_contain_text("23completion")
    expect(page.locator("#samples")).to_contain_text("Write to [EMAIL].")
    expect(page.get_by_label("Problem", exact=True)).to_have_value("email_address")
    page.get_by_label("Severity").select_option("error")
    expect(page.locator("#problem-rows")).to_contain_text("No row has such a problem.")
    check(page)
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_report_shows_lengths_and_languages_and_downloads(site: Site, ada: User, version: DatasetVersion) -> None:
    page = report(site, ada, version)
    expect(page.get_by_role("img", name="Rows by characters")).to_be_visible()
    expect(page.locator("#languages")).to_contain_text("unclear, or too short to tell100 %")
    expect(page.locator("#languages")).to_contain_text("sample of 23 rows")

    with page.expect_download() as download:
        page.get_by_role("link", name="Download as JSON").click()

    assert download.value.suggested_filename == "flawed-v1-report.json"


def test_tokens_are_counted_on_demand(
    site: Site,
    ada: User,
    version: DatasetVersion,
    local_model: str,  # noqa: F811
) -> None:
    page = report(site, ada, version)
    expect(page.locator("#token-lengths")).to_contain_text("Not counted yet")
    page.get_by_label("Count with the tokenizer of").fill("local:nothing")
    page.get_by_role("button", name="Count tokens").click()
    expect(page.locator("#count-tokens").get_by_role("alert")).to_contain_text("no folder 'nothing'")
    site.complaints.clear()  # the 400

    page.get_by_label("Count with the tokenizer of").fill(local_model)
    page.get_by_role("button", name="Count tokens").click()

    expect(page.get_by_role("img", name="Rows by tokens")).to_be_visible(timeout=60_000)
    expect(page.locator("#token-lengths")).to_contain_text("All 24 rows, texts only, without a template")
    page.reload()
    expect(page.get_by_role("img", name="Rows by tokens")).to_be_visible()


def test_fixes_make_a_version_that_can_be_compared(site: Site, ada: User, version: DatasetVersion) -> None:
    page = report(site, ada, version)
    expect(page.locator("#fixes li")).to_have_count(4)

    page.get_by_role("button", name="Apply fixes").click()

    expect(page.locator("#toasts")).to_contain_text("Version 2 was made: 22 of 24 rows.")
    expect(page.locator("#fixes")).to_contain_text("nothing that can be fixed")
    assert DatasetVersion.objects.get(number=2).parent == version
    page.get_by_role("link", name="Versions", exact=True).click()
    row = page.locator("table.versions tbody tr").first
    expect(row).to_contain_text("4 fixes applied on version 1")
    expect(row).to_contain_text("email address: mask in 1 row")
    expect(page.get_by_role("link", name="Version 2, 4 fixes applied on version 1, 22 rows")).to_be_visible()

    page.get_by_role("button", name="Compare").click()

    diff = page.locator("#diff")
    expect(diff.get_by_role("heading", name="Changed rows: 2")).to_be_visible()
    expect(diff.get_by_role("heading", name="Removed rows: 2")).to_be_visible()
    expect(diff.locator("[data-kind=changed] ins")).to_have_text("[EMAIL]")
    check(page)
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_only_chosen_fixes_are_applied(site: Site, ada: User, version: DatasetVersion) -> None:
    page = report(site, ada, version)
    for code in ("no answer", "duplicate row", "control characters"):
        page.locator("#fixes li", has_text=code).get_by_role("checkbox").uncheck()

    page.get_by_role("button", name="Apply fixes").click()

    expect(page.locator("#toasts")).to_contain_text("Version 2 was made: 24 of 24 rows.")
    assert DatasetVersion.objects.get(number=2).changes["codes"] == ["email_address"]


def test_a_refused_fix_is_explained_in_place(site: Site, ada: User, version: DatasetVersion) -> None:
    page = report(site, ada, version)
    page.route(
        "**/fixes", lambda route: route.fulfill(status=507, json={"detail": "the disk is full", "code": "x", "errors": []})
    )
    page.get_by_role("button", name="Apply fixes").click()
    expect(page.locator("#fixes [role=alert]")).to_have_text("the disk is full")
    expect(page.get_by_role("button", name="Apply fixes")).to_be_enabled()
    site.complaints.clear()  # the 507


def test_the_overview_names_version_and_reference(site: Site, ada: User, version: DatasetVersion) -> None:
    page = site.visit(f"/datasets/{version.dataset_id}", user=ada)
    expect(page.locator("#preview td").nth(1)).to_have_text("question 0")
    page.get_by_role("button", name="Copy the reference").click()
    assert page.evaluate("navigator.clipboard.readText()") == f"dataset:{version.dataset_id}@1"
    check(page)
