"""Draw the pictures of the documentation: ``python -m pytest frontend/tests/screenshots.py``.

Not a test, and not collected as one; it uses the tests' services, site and scenes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

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
