"""Uploading and mapping in a real Chromium."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from datasets_app.models import Dataset, DatasetVersion, WaitingUpload
from frontend.tests import data_scenes
from frontend.tests.browsing import Site
from platform_site.models import User

pytestmark = pytest.mark.browser

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content)
    return path


def good_file(folder: Path, name: str = "orders.jsonl", *, rows: int = 30) -> Path:
    turns = [{"role": "user", "content": "two large lattes"}, {"role": "assistant", "content": "2 x latte, large"}]
    return write(folder, name, f"{json.dumps({'messages': turns})}\n" * rows + '{"messages": []}\n')


def choose(page: Page, *paths: Path) -> None:
    page.get_by_label("Choose files").set_input_files(list(paths))


def check(page: Page, *, width: int | None = None) -> None:
    broken = Axe().run(page, options=WCAG).response["violations"]
    assert [(item["id"], [node["target"] for node in item["nodes"]][:3]) for item in broken] == []
    if width:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_file_is_named_after_itself_and_becomes_a_dataset(site: Site, ada: User, tmp_path: Path) -> None:
    page = site.visit("/datasets", user=ada)
    choose(page, good_file(tmp_path))
    expect(page.get_by_label("Name")).to_have_value("orders")

    page.get_by_role("button", name="Upload", exact=True).dblclick()

    expect(page).to_have_url(re.compile("/datasets/.{36}$"))
    expect(page.locator("#preview td").nth(1)).to_have_text("user: two large lattes\nassistant: 2 x latte, large")
    assert DatasetVersion.objects.count() == 1


def test_several_files_go_one_after_the_other_and_each_says_what_became_of_it(site: Site, ada: User, tmp_path: Path) -> None:
    empty, strange = write(tmp_path, "empty.jsonl", ""), write(tmp_path, "fragen.csv", "frage,antwort,x\na,b,c\n")
    page = site.visit("/datasets", user=ada)
    choose(page, good_file(tmp_path), empty)
    choose(page, strange)
    page.locator(".upload-item", has_text="orders.jsonl").get_by_label("Name").fill("coffee")

    page.get_by_role("button", name="Upload 3 files").click()

    expect(page.locator("#upload-sum")).to_have_text("")
    items = page.locator(".upload-item")
    expect(items.nth(0)).to_contain_text("Version 1: 31 rows, 1 left out")
    expect(items.nth(1).get_by_role("alert")).to_contain_text("empty.jsonl")
    expect(items.nth(2).get_by_role("link", name="Map the columns")).to_be_visible()
    expect(page.locator("#dataset-list")).to_contain_text("coffee")
    expect(page.locator("#dataset-list")).to_contain_text("fragen.csv")
    expect(page.get_by_role("button", name="Try again")).to_be_enabled()
    check(page, width=360)
    site.complaints.clear()  # the 400 of the empty file


def test_a_file_can_be_dropped_and_removed_by_keyboard(site: Site, ada: User) -> None:
    page = site.visit("/datasets", user=ada)
    data = page.evaluate_handle(
        "() => { const d = new DataTransfer(); d.items.add(new File(['text\\nhi\\n'], 'a.csv')); return d; }"
    )
    page.locator("#drop-zone").dispatch_event("drop", {"dataTransfer": data})
    expect(page.get_by_label("Name")).to_have_value("a")

    page.get_by_role("button", name="Remove a.csv").focus()
    page.keyboard.press("Enter")

    expect(page.locator(".upload-item")).to_have_count(0)
    expect(page.get_by_label("Choose files")).to_be_focused()
    expect(page.get_by_role("button", name="Upload", exact=True)).to_be_hidden()


def test_an_upload_shows_its_bytes_and_starts_once(site: Site, ada: User, tmp_path: Path) -> None:
    page = site.visit("/datasets", user=ada)
    page.evaluate(
        """() => { XMLHttpRequest.prototype.send = function () {
             this.upload.onprogress({ loaded: 500_000, total: 2_000_000 });
           } }"""
    )
    choose(page, good_file(tmp_path))
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.locator(".upload-line")).to_contain_text("500 kB of 2.00 MB")
    expect(page.get_by_role("progressbar")).to_have_attribute("value", "25")
    expect(page.get_by_role("button", name="Uploading…")).to_be_disabled()


def test_a_file_of_no_format_is_mapped_with_a_live_preview(site: Site, ada: User, tmp_path: Path) -> None:
    page = site.visit("/datasets", user=ada)
    choose(page, write(tmp_path, "fragen.csv", "frage,antwort,quelle\nWie geht es?,Gut.,a\nWer da?,,b\n"))
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page).to_have_url(re.compile("/datasets/uploads/.{36}$"))
    expect(page.locator("#mapping-found")).to_contain_text("no row format fits the columns 'frage', 'antwort', 'quelle'")
    save = page.get_by_role("button", name="Import the file")
    expect(save).to_be_disabled()

    page.get_by_label("prompt", exact=True).select_option("frage")
    page.get_by_label("completion", exact=True).select_option("antwort")

    expect(page.locator("#kept-rows .message").nth(1)).to_have_text("assistantGut.")
    expect(page.locator("#kept-note")).to_have_text("1 of 2 rows cannot be trained on")
    expect(save).to_be_enabled()
    check(page)
    save.click()
    expect(page.get_by_role("heading", name="fragen", exact=True)).to_be_visible()
    expect(page.locator("#toasts")).to_contain_text("Version 1 was made")
    assert DatasetVersion.objects.get().format == "prompt_completion"
    assert not WaitingUpload.objects.exists()


def test_a_version_is_mapped_to_another_format_beside_it(site: Site, ada: User) -> None:
    version = data_scenes.upload_rows(ada, [{"instruction": "Add.", "input": "2, 3", "output": "5"}] * 3)
    page = site.visit(f"/datasets/{version.dataset_id}/columns", user=ada, scheme="dark")
    expect(page.locator("#mapping-found")).to_contain_text("Found alpaca: columns instruction, output, input.")
    expect(page.get_by_role("radio", name=re.compile("^alpaca kept|^alpaca instruction"))).to_be_checked()

    page.get_by_role("radio", name=re.compile("^text")).check()
    expect(page.locator("#parts-note")).to_have_text("still to choose: text")
    page.get_by_label("text", exact=True).select_option("output")
    expect(page.locator("#kept-rows .message").first).to_have_text("text5")
    check(page, width=360)
    page.get_by_role("button", name="Save as a new version").click()

    expect(page.locator("#toasts")).to_contain_text("Version 2 was made: 3 of 3 rows.")
    made = DatasetVersion.objects.get(number=2)
    assert (made.format, made.parent) == ("text", version)


def test_a_choice_that_does_not_fit_is_explained_and_a_file_can_be_discarded(site: Site, ada: User) -> None:
    waiting = data_scenes.waiting_file(ada)
    page = site.visit(f"/datasets/uploads/{waiting.pk}", user=ada)
    page.get_by_role("radio", name=re.compile("^chat")).first.check()
    page.get_by_label("messages", exact=True).select_option("kasse")
    expect(page.locator("#kept-note")).to_have_text("5 of 5 rows cannot be trained on")
    page.get_by_role("button", name="Import the file").click()
    expect(page.get_by_role("alert")).to_contain_text("row 1: ")
    site.complaints.clear()  # the 400

    page.get_by_role("button", name="Discard the file").click()
    page.get_by_role("button", name="Press again").click()

    expect(page).to_have_url(f"{site.address}/datasets")
    assert not WaitingUpload.objects.exists()
    assert not Dataset.objects.exists()
