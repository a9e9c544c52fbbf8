"""The API's own page works under the site's content security policy."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def test_the_docs_show_every_operation_and_complain_about_nothing(site):
    page = site.visit("/docs")

    expect(page.locator(".opblock").first).to_be_visible()
    page.locator("[id='operations-jobs-jobs_start'] .opblock-summary").click()
    expect(page.locator("[id='operations-jobs-jobs_start'] .opblock-body")).to_contain_text("Idempotency-Key")
