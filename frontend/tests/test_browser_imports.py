"""The page of imports in a real Chromium, with a server in the Hub's place."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from datasets_app.import_work import import_next
from datasets_app.models import DatasetImport
from datasets_app.tests.hub_server import Hub, Repository, serving
from frontend.tests.browsing import Site
from platform_site.models import User

pytestmark = pytest.mark.browser

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
ROWS = b"".join(json.dumps({"prompt": f"question {n}", "completion": f"answer {n}"}).encode() + b"\n" for n in range(30))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, settings) -> Iterator[Hub]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serving() as hub:
        settings.ENV = settings.ENV.model_copy(update={"hf_endpoint": hub.address})
        hub.repositories["ada/sums"] = Repository(files={"train.jsonl": ROWS, "test.jsonl": ROWS[:400]})
        yield hub


def check(page: Page) -> None:
    broken = Axe().run(page, options=WCAG).response["violations"]
    assert [(item["id"], [node["target"] for node in item["nodes"]][:3]) for item in broken] == []


def shot(page: Page, name: str) -> None:
    """Keep a picture where somebody wants to look at one."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_split_is_imported_by_keyboard_and_opened(site: Site, ada: User, hub: Hub, scheme: str) -> None:
    page = site.visit("/datasets", user=ada, scheme=scheme)
    page.get_by_role("link", name="Import from the Hub or a bucket").click()
    expect(page.get_by_role("heading", name="No imports yet")).to_be_visible()
    page.get_by_label("From").focus()
    page.keyboard.type("ada/sums")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Waits for a worker.")).to_be_visible()
    check(page)

    import_next()
    expect(page.get_by_text("split must be named, as there are several: train, test")).to_be_visible()
    page.get_by_label("From").fill("ada/sums")
    page.get_by_label("Split").fill("train")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.locator(".imports > li")).to_have_count(2)
    import_next()

    expect(page.get_by_text("30 rows")).to_be_visible()
    check(page)
    shot(page, f"imports-{scheme}")
    page.get_by_role("link", name="Open sums-train").click()
    expect(page.get_by_role("heading", name="sums-train", level=1)).to_be_visible()


def test_progress_in_bytes_is_shown_and_an_import_can_be_stopped(site: Site, ada: User, hub: Hub) -> None:
    source = {"type": "hub", "repository": "ada/sums"}
    DatasetImport.objects.create(
        owner=ada, name="half", source=source, status="running", attempt=1, done_bytes=1_500_000, total_bytes=3_000_000
    )
    page = site.visit("/datasets/import", user=ada, width=400)
    expect(page.get_by_text("1.50 MB of 3.00 MB")).to_be_visible()
    check(page)

    page.get_by_role("button", name="Stop the import of half").click()

    expect(page.get_by_role("heading", name="No imports yet")).to_be_visible()
    assert DatasetImport.objects.count() == 0


def test_a_bucket_takes_no_split_and_a_refusal_is_said(site: Site, ada: User, hub: Hub) -> None:
    page = site.visit("/datasets/import", user=ada)
    page.get_by_label("From").fill("s3://elsewhere/rows.jsonl")
    expect(page.get_by_label("Split")).to_be_disabled()

    page.get_by_role("button", name="Import", exact=True).click()

    expect(page.get_by_role("alert")).to_contain_text("bucket must be one of")
    site.complaints.clear()  # Chromium notes every answer of 400


def test_an_offline_server_says_what_to_do(site: Site, ada: User) -> None:
    page = site.visit("/datasets/import", user=ada)

    expect(page.get_by_text("This server works offline")).to_contain_text("upload it")
