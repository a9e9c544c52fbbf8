"""Fixes, versions and their differences in a real Chromium."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from datasets_app.models import DatasetVersion
from frontend.tests.browsing import Site
from platform_site.models import User

pytestmark = pytest.mark.browser

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
MAIL = "ada@example.org"


def upload_flawed(site: Site, user: User, folder: Path, **options: object) -> Page:
    """Upload rows with a repetition, an empty answer, an address and an invisible character; open their page."""
    rows = [{"prompt": f"question {number}", "completion": f"answer {number}"} for number in range(20)]
    rows += [rows[3], {"prompt": "no answer", "completion": ""}, {"prompt": "who?", "completion": f"Write to {MAIL}."}]
    rows += [{"prompt": "hidden\u200b\x07 sign", "completion": "x"}]
    path = folder / "flawed.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    page = site.visit("/datasets", user=user, **options)
    page.get_by_label("Upload rows").set_input_files(path)
    page.get_by_role("button", name="Upload", exact=True).click()
    page.wait_for_url(re.compile("/datasets/.{36}$"))
    expect(page.get_by_role("button", name="Apply fixes")).to_be_visible()
    return page


def test_fixes_make_a_version_that_can_be_compared(site: Site, ada: User, tmp_path: Path):
    page = upload_flawed(site, ada, tmp_path)
    expect(page.locator("#dataset-report")).to_contain_text("email_address")
    expect(page.locator("#dataset-report")).not_to_contain_text(MAIL)
    expect(page.locator("#fixes li")).to_have_count(4)

    page.get_by_role("button", name="Apply fixes").click()
    expect(page.locator("#toasts")).to_contain_text("Version 2 was made: 22 of 24 rows.")
    expect(page.locator("#fixes")).to_contain_text("nothing that can be fixed")
    expect(page.locator("#preview")).to_contain_text("answer 3")
    row = page.locator("section", has=page.get_by_role("heading", name="Versions")).locator("tbody tr").first
    expect(row).to_contain_text("version 1: no answer drop 1")
    expect(row).to_contain_text("email address mask 1")
    assert DatasetVersion.objects.get(number=2).parent.number == 1

    page.get_by_role("button", name="Compare").click()
    diff = page.locator("#diff")
    expect(diff).to_contain_text("Rows from version 1 to 2")
    expect(diff.get_by_role("heading", name="Changed rows: 2")).to_be_visible()
    expect(diff.locator(".come").first).to_have_text("completion Write to [EMAIL].")
    expect(diff.get_by_role("heading", name="Removed rows: 2")).to_be_visible()
    broken = Axe().run(page, options=WCAG).response["violations"]
    assert [(item["id"], [node["target"] for node in item["nodes"]][:3]) for item in broken] == []


def test_only_chosen_fixes_are_applied(site: Site, ada: User, tmp_path: Path):
    page = upload_flawed(site, ada, tmp_path)
    for code in ("no answer", "duplicate row", "control characters"):
        page.locator("#fixes li", has_text=code).get_by_role("checkbox").uncheck()

    page.get_by_role("button", name="Apply fixes").click()
    expect(page.locator("#toasts")).to_contain_text("Version 2 was made: 24 of 24 rows.")
    assert DatasetVersion.objects.get(number=2).changes["codes"] == ["email_address"]


def test_a_refused_fix_is_explained_in_place(site: Site, ada: User, tmp_path: Path):
    page = upload_flawed(site, ada, tmp_path)
    page.route(
        "**/fixes", lambda route: route.fulfill(status=507, json={"detail": "the disk is full", "code": "x", "errors": []})
    )
    page.get_by_role("button", name="Apply fixes").click()
    expect(page.locator("#fixes [role=alert]")).to_have_text("the disk is full")
    expect(page.get_by_role("button", name="Apply fixes")).to_be_enabled()
    site.complaints.clear()  # the 507


def test_the_page_is_no_wider_than_a_phone(site: Site, ada: User, tmp_path: Path):
    page = upload_flawed(site, ada, tmp_path, width=360)
    page.get_by_role("button", name="Apply fixes").click()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#diff")).to_contain_text("Changed rows")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
