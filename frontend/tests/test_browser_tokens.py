"""The token view in a real Chromium, its tokens made by a real process."""

from __future__ import annotations

import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.core.files.uploadedfile import SimpleUploadedFile
from playwright.sync_api import expect

from celery_workers.conftest import tiny_model_folder, tiny_tokenizer  # noqa: F401 - fixtures
from datasets_app import tokens
from datasets_app.models import DatasetVersion
from datasets_app.services import import_upload
from datasets_app.tests.conftest import local_model  # noqa: F401 - a fixture
from frontend.tests.browsing import Site
from platform_site.models import User

pytestmark = pytest.mark.browser

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}


@pytest.fixture
def version(ada: User) -> DatasetVersion:
    """Three conversations and one without an answer."""
    rows = [[("user", f"coffee {n}\nplease"), ("assistant", f"{n} x coffee")] for n in (1, 2, 3)] + [[("user", "hello")]]
    lines = [json.dumps({"messages": [{"role": role, "content": text} for role, text in row]}) for row in rows]
    upload = SimpleUploadedFile("orders.jsonl", "\n".join(lines).encode())
    return import_upload(user=ada, upload=upload, name="orders").version


@pytest.fixture(autouse=True)
def _no_process_stays():
    yield
    tokens.child.close()


def address(version: DatasetVersion, model: str, **query: object) -> str:
    pairs = "&".join(f"{name}={value}" for name, value in {"model": model, **query}.items())
    return f"/datasets/{version.dataset_id}/tokens?{pairs}"


def test_trained_tokens_are_marked_and_keys_move_through_tokens_and_rows(
    site: Site,
    ada: User,
    version: DatasetVersion,
    local_model: str,  # noqa: F811
) -> None:
    page = site.visit(address(version, local_model), user=ada)
    chips = page.get_by_role("listbox", name="Tokens of the row")
    expect(chips).to_be_visible(timeout=60_000)
    assert "".join(page.locator("#token-chips .token.trained").all_text_contents()) == "1·x·coffee<|im_end|>"
    expect(page.locator("#token-line")).to_contain_text("11 trained")

    chips.focus()
    page.keyboard.press("End")
    expect(page.locator("#token-detail")).to_contain_text('"\\n"')
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#token-detail")).to_contain_text("end of turn")
    expect(chips.get_by_role("option", selected=True)).to_have_attribute("aria-label", "<|im_end|>, trained, end of turn")

    page.keyboard.press("j")
    expect(page.locator("#token-chips")).to_contain_text("2·x·coffee")
    expect(page).to_have_url(re.compile("row=2"))
    expect(page.locator("#token-share")).to_contain_text("Of all 4 rows; 3 are kept, left out: 1 unfit.")


def test_both_answers_of_a_preference_are_shown(
    site: Site,
    ada: User,
    local_model: str,  # noqa: F811
) -> None:
    row = json.dumps({"prompt": "tea please", "chosen": "1 x tea", "rejected": "no"})
    upload = SimpleUploadedFile("orders.jsonl", row.encode())
    version = import_upload(user=ada, upload=upload, name="orders").version
    page = site.visit(address(version, local_model), user=ada)
    rejected = page.get_by_role("group", name="Rejected")
    expect(rejected).to_be_visible(timeout=60_000)
    assert "".join(rejected.locator(".token.trained").all_text_contents()) == "no<|im_end|>"
    expect(page.locator("#token-line")).to_contain_text("rejected: ")

    page.get_by_role("listbox", name="Tokens of the row").focus()
    page.keyboard.press("End")
    expect(page.locator("#token-detail")).to_contain_text('"\\n"')
    assert Axe().run(page, options=WCAG).response["violations"] == []


def test_a_row_without_tokens_and_a_model_that_is_not_there_are_explained(
    site: Site,
    ada: User,
    version: DatasetVersion,
    local_model: str,  # noqa: F811
) -> None:
    page = site.visit(address(version, local_model, row=4), user=ada)
    expect(page.locator("#token-problem")).to_contain_text("Validation leaves this row out", timeout=60_000)
    expect(page.get_by_role("button", name="Next")).to_be_disabled()

    page.get_by_label("Model").fill("local:nothing")
    page.get_by_label("Model").press("Tab")
    expect(page.get_by_role("alert")).to_contain_text("there is no folder 'nothing' under MODEL_ROOTS")
    site.complaints.clear()  # the 400


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_keeps_to_wcag_and_to_a_phone(
    site: Site,
    ada: User,
    version: DatasetVersion,
    local_model: str,  # noqa: F811
    scheme: str,
) -> None:
    page = site.visit(address(version, local_model), user=ada, scheme=scheme)
    expect(page.get_by_role("listbox", name="Tokens of the row")).to_be_visible(timeout=60_000)
    violations = Axe().run(page, options=WCAG).response["violations"]
    assert [(item["id"], [node["target"] for node in item["nodes"]][:3]) for item in violations] == []
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
