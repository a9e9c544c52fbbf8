"""Options, chunks and the template editor of the token view in a real Chromium, its tokens made by a real process."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.core.files.uploadedfile import SimpleUploadedFile
from playwright.sync_api import Page, expect

from celery_workers.conftest import tiny_model_folder, tiny_tokenizer  # noqa: F401 - fixtures
from datasets_app import tokens
from datasets_app.models import DatasetVersion
from datasets_app.services import import_upload
from datasets_app.tests.conftest import local_model  # noqa: F401 - a fixture
from frontend.tests.browsing import Site
from platform_site.models import User

pytestmark = pytest.mark.browser

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
LOADING = 90_000


@pytest.fixture(autouse=True)
def _no_process_stays():
    yield
    tokens.child.close()


def upload(user: User, rows: list[dict[str, str]]) -> DatasetVersion:
    content = "\n".join(map(json.dumps, rows)).encode()
    return import_upload(user=user, upload=SimpleUploadedFile("rows.jsonl", content), name="rows").version


def visit(site: Site, user: User, version: DatasetVersion, *, scheme: str = "light", **query: object) -> Page:
    return site.visit(f"/datasets/{version.dataset_id}/tokens?{urlencode(query)}", user=user, scheme=scheme)


def check(page: Page) -> None:
    broken = Axe().run(page, options=WCAG).response["violations"]
    assert [(item["id"], [node["target"] for node in item["nodes"]][:3]) for item in broken] == []


def shot(page: Page, name: str) -> None:
    """Keep a picture where somebody wants to look at one."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_chunks_are_walked_through_by_key_and_what_they_repeat_has_a_border(
    site: Site,
    ada: User,
    local_model: str,  # noqa: F811
    scheme: str,
) -> None:
    version = upload(ada, [{"text": "\n\n".join(f"Paragraph {n} is short. It ends." for n in range(6))}])
    options = {"over_long": "chunk", "max_length_tokens": 64, "chunk_overlap_tokens": 8}
    page = visit(site, ada, version, scheme=scheme, model=local_model, **options)
    chunks = page.get_by_role("group", name="Choose a chunk")
    expect(chunks).to_be_visible(timeout=LOADING)
    expect(page.locator("#token-line")).to_contain_text("chunk 1 of")
    expect(page.locator(".token-border", has_text="repeated")).to_have_count(1)  # the legend's

    page.keyboard.press("n")
    expect(page.locator("#token-chips .token-border")).to_contain_text("repeated")
    expect(page.locator("#token-line")).to_contain_text("chunk 2 of")
    expect(page).to_have_url(re.compile("chunk=2"))
    check(page)
    shot(page, f"chunks-{scheme}")

    page.keyboard.press("p")
    expect(page.get_by_role("button", name="Previous chunk")).to_be_disabled()


def test_cleaning_options_change_what_is_shown_and_stay_in_the_address(
    site: Site,
    ada: User,
    local_model: str,  # noqa: F811
) -> None:
    version = upload(ada, [{"prompt": "<p>Who <b>is</b> it?</p>", "completion": "Write to ada.lovelace@example.com please"}])
    page = visit(site, ada, version, model=local_model)
    expect(page.locator("#token-chips")).to_contain_text("<p>Who", timeout=LOADING)

    page.get_by_text("More options of preprocessing").click()
    page.get_by_label("Strip html").check()
    page.get_by_label("email").check()

    expect(page.locator("#token-chips")).to_contain_text("[EMAIL]", timeout=LOADING)
    expect(page.locator("#token-chips")).not_to_contain_text("<p>")
    expect(page).to_have_url(re.compile("strip_html=true.*|mask_personal_data=email"))
    check(page)
    shot(page, "token-options")
    page.reload()
    expect(page.locator("#token-chips")).to_contain_text("[EMAIL]", timeout=LOADING)
    expect(page.get_by_label("Strip html")).to_be_checked()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_custom_template_is_edited_and_its_error_stands_at_the_line(
    site: Site,
    ada: User,
    local_model: str,  # noqa: F811
    scheme: str,
) -> None:
    version = upload(ada, [{"prompt": "tea please", "completion": "1 x tea"}])
    page = visit(site, ada, version, scheme=scheme, model=local_model)
    expect(page.get_by_role("listbox", name="Tokens of the row")).to_be_visible(timeout=LOADING)
    page.get_by_label("Template", exact=True).select_option("custom")
    editor = page.get_by_role("textbox", name="Custom template")
    expect(editor).to_have_value(re.compile("for message in messages"))

    editor.fill("{% for message in messages %}\n{{ message['content'] }\n{% endfor %}")
    editor.press("Tab")
    problem = page.locator("#token-template-problem")
    expect(problem).to_contain_text("line 2 of the template", timeout=LOADING)
    expect(page.locator("#token-gutter b")).to_have_text("▸2")
    check(page)
    shot(page, f"template-{scheme}")
    page.get_by_role("button", name="Go to line 2").click()
    expect(editor).to_be_focused()
    assert editor.evaluate("area => area.value.slice(area.selectionStart, area.selectionEnd)") == "{{ message['content'] }"

    editor.fill("{% for m in messages %}<|im_start|>{{ m['role'] }}: {{ m['content'] }}<|im_end|>\n{% endfor %}"
                "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}")  # fmt: skip
    editor.press("Tab")
    expect(page.locator("#token-chips .token.trained").first).to_be_visible(timeout=LOADING)
    expect(problem).to_be_hidden()
    site.complaints.clear()  # the 400
