"""A real Chromium on the real site."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Error, expect, sync_playwright

from frontend.tests.proxy import CuttableProxy

if TYPE_CHECKING:  # pytest imports this file before Django is set up
    from frontend.tests.browsing import Site
    from platform_site.models import User

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip
NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, or the one that Playwright has installed."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    # Playwright's synchronous API keeps an event loop in this thread, which Django would take for asynchronous code.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    expect.set_options(timeout=15_000)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        except Error as error:
            pytest.skip(
                "no Chromium: `apt-get install chromium` or `playwright install chromium` gets one "
                f"({str(error).splitlines()[0]})"
            )
        yield browser
        browser.close()
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def site(transactional_db: None, chromium: Browser) -> Iterator[Site]:
    """The whole site on a free port; the test fails if a page complained in its console."""
    from frontend.tests.browsing import Site
    from pipelines.tests.live_site import live_site

    with live_site() as served:
        proxy = CuttableProxy(served.host)
        opened = Site(browser=chromium, proxy=proxy)
        yield opened
        for page in opened.pages:
            page.context.close()
        proxy.close()
    assert opened.complaints == []


@pytest.fixture
def ada(transactional_db: None) -> User:
    """A person with a password, on a database that other threads see."""
    from platform_site.models import User

    return User.objects.create_user("ada", password="correct horse battery")
