"""Draw the pictures of the documentation: ``python -m pytest frontend/tests/screenshots.py``.

Not a test, and not collected as one; it uses the tests' services, site and scenes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from frontend.tests import data_scenes
from frontend.tests.browsing import Site
from pipelines.tests import scenes
from platform_site.models import User

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
MAX_BYTES = 150_000


def save(page: Page, name: str) -> None:
    """Write one picture once the page is at rest."""
    page.wait_for_timeout(500)
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path, animations="disabled")
    assert path.stat().st_size <= MAX_BYTES


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_draw(site: Site, ada: User, tmp_path: Path, scheme: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    scenes.every_state(ada, tmp_path)
    page = site.visit("/", user=ada, scheme=scheme, width=1180, height=480)
    save(page, f"runs-{scheme}")
    page.set_viewport_size({"width": 1180, "height": 700})
    page.goto("/runs/orders-r64")
    expect(page.locator("#log-connection")).to_have_text("live")
    save(page, f"run-{scheme}")
    page.goto("/runs/orders-r16")
    page.get_by_role("button", name="Open the report of comparison").click()
    expect(page.get_by_role("dialog")).to_contain_text("Samples")
    save(page, f"report-{scheme}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_draw_datasets(site: Site, ada: User, scheme: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    version, waiting = data_scenes.dataset_with_versions(ada), data_scenes.waiting_file(ada)
    address = f"/datasets/{version.dataset_id}"
    page = site.visit("/datasets", user=ada, scheme=scheme, width=1180, height=560)
    save(page, f"datasets-{scheme}")
    page.set_viewport_size({"width": 1180, "height": 900})
    page.goto(f"/datasets/uploads/{waiting.pk}")
    page.get_by_label("prompt", exact=True).select_option("bestellung")
    page.get_by_label("completion", exact=True).select_option("kasse")
    expect(page.get_by_role("button", name="Import the file")).to_be_enabled()
    save(page, f"columns-{scheme}")
    page.goto(f"{address}/report?version=1")
    expect(page.locator(".count")).not_to_have_count(0)
    save(page, f"dataset-report-{scheme}")
    page.goto(f"{address}/versions?from=1&to=2")
    expect(page.locator(".diff-rows")).not_to_have_count(0)
    save(page, f"versions-{scheme}")
    page.goto(f"{address}/duplicates?version=1")
    page.get_by_role("button", name="Look for them").click()
    expect(page.locator(".pair")).not_to_have_count(0, timeout=60_000)
    page.keyboard.press("2")
    save(page, f"duplicates-{scheme}")
