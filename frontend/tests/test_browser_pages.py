"""Journeys through the pages in a real Chromium."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from frontend.tests import data_scenes
from frontend.tests.browsing import Site
from pipelines import events
from pipelines.events import EventLine
from pipelines.models import NodeRun, Run, Status
from pipelines.tests import scenes
from platform_site.models import ApiToken, User

pytestmark = pytest.mark.browser

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}


def test_login_and_logout(site: Site, ada: User):
    page = site.visit("/settings/tokens")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{site.address}/settings/tokens")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{site.address}/login")


def test_list_goes_from_empty_to_rows_without_a_reload(site: Site, ada: User):
    page = site.visit("/", user=ada)
    expect(page.get_by_text("No runs yet")).to_be_visible()
    run = scenes.make_run(ada, name="first run", status=Status.RUNNING)
    link = page.get_by_role("link", name="first run")
    expect(link).to_be_visible(timeout=15_000)
    Run.objects.filter(pk=run.pk).update(status=Status.SUCCEEDED)
    expect(page.locator(".cell-status")).to_have_text("succeeded")
    link.click()
    expect(page.get_by_role("heading", name="first run")).to_be_visible()


def test_cancel_asks_once_and_the_page_follows(site: Site, ada: User):
    run = scenes.running_run(ada)
    page = site.visit(f"/runs/{run.pk}", user=ada)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.method == "DELETE" else None)
    page.get_by_role("button", name="Cancel run").dblclick()
    expect(page.locator("#run-status")).to_have_text("canceling")
    assert len(asked) == 1
    run.refresh_from_db()
    assert run.status == Status.CANCELING
    expect(page.locator("#announce")).to_have_text("The run is canceling.")


def test_a_refused_action_is_explained(site: Site, ada: User):
    run = scenes.running_run(ada)
    page = site.visit(f"/runs/{run.pk}", user=ada)
    expect(page.locator("#log-connection")).to_have_text("live")
    page.route(
        "**/api/v1/jobs/*",
        lambda route: route.fulfill(status=409, json={"detail": "the run has ended", "code": "x", "errors": []}),
    )
    page.get_by_role("button", name="Cancel run").click()
    expect(page.locator("#toasts")).to_contain_text("the run has ended")
    expect(page.get_by_role("button", name="Cancel run")).to_be_enabled()
    site.complaints.clear()  # the 409


def test_nodes_follow_the_run_and_open_details_stay_open(site: Site, ada: User):
    run = scenes.running_run(ada)
    page = site.visit(f"/runs/{run.pk}", user=ada)
    node = page.locator(".node", has_text="TrainingAgent")
    expect(node).to_contain_text("step 128 of 210")
    node.locator("summary").click()
    expect(node).to_contain_text("learning_rate")
    NodeRun.objects.filter(run=run, node="training").update(step=150, fraction=150 / 210)
    expect(node).to_contain_text("step 150 of 210")
    expect(node.locator("details")).to_have_attribute("open", "")


def test_curve_and_report_are_drawn(site: Site, ada: User, tmp_path: Path):
    run = scenes.succeeded_run(ada, tmp_path)
    page = site.visit(f"/runs/{run.pk}", user=ada)
    expect(page.get_by_role("img", name="loss by step")).to_be_visible()
    page.get_by_role("button", name="grad norm").click()
    expect(page.get_by_role("img", name="grad norm by step")).to_be_visible()
    page.get_by_role("button", name="Open the report of comparison").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Tuned against base on 100 held-out rows")
    expect(dialog.get_by_role("img", name="Exact match with 95 % intervals")).to_be_visible()
    expect(dialog.get_by_role("row", name="exact match 0.00 0.97 0.97 0.93 1.00")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_a_loss_that_is_not_a_number_is_marked_on_the_curve(site: Site, ada: User):
    run = scenes.make_run(ada, name="nan", status=Status.RUNNING)
    losses = [2.0, 1.5, float("nan"), 1.2]
    lines = [
        EventLine(type="metric", node="training", message="step", level="METRIC", step=n, loss=x) for n, x in enumerate(losses)
    ]
    events.append(run.pk, lines)
    page = site.visit(f"/runs/{run.pk}", user=ada)
    expect(page.locator("#curve-body .spot title")).to_have_text("not a number at step 2")
    expect(page.locator(".line", has_text="nan")).to_be_visible()


def test_token_is_made_shown_once_and_revoked(site: Site, ada: User):
    page = site.visit("/settings/tokens", user=ada)
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Make token").click()
    expect(page.locator("#token-key")).to_have_text(re.compile(r"^ft_.{40,}$"))
    key = page.locator("#token-key").text_content()
    assert ApiToken.objects.get(name="laptop").digest == ApiToken.digest_of(key)
    page.get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == key
    expect(page.get_by_role("row", name="laptop")).to_contain_text("run")

    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Make token").click()
    expect(page.get_by_role("alert")).to_contain_text("laptop")
    site.complaints.clear()  # the 409 of the second one

    page.reload()
    assert key not in page.content()
    page.get_by_role("button", name="Revoke laptop").click()
    page.get_by_role("button", name="Keep it").click()
    assert ApiToken.objects.get(name="laptop").revoked_at is None
    page.get_by_role("button", name="Revoke laptop").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("No tokens")).to_be_visible()
    assert ApiToken.objects.get(name="laptop").revoked_at is not None


def test_the_admin_works_under_the_content_security_policy(site: Site, transactional_db: None, tmp_path: Path):
    operator = User.objects.create_superuser("operator")
    run = scenes.every_state(operator, tmp_path)["running"]
    page = site.visit("/admin/", user=operator)
    for path in ("pipelines/noderun/?lease=held", "pipelines/run/", "pipelines/artifact/", "platform_site/apitoken/"):
        page.goto(f"/admin/{path}")
        expect(page.locator("#content h1")).to_be_visible()
    page.goto(f"/admin/pipelines/run/{run.pk}/change/")
    expect(page.locator("pre.lines")).to_contain_text("Training step completed")


def test_theme_is_remembered(site: Site, ada: User):
    page = site.visit("/", user=ada)
    page.get_by_role("button", name="Use the dark theme").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.get_by_role("button", name="Use the light theme")).to_be_visible()


def test_keyboard_reaches_the_content_the_list_and_the_search(site: Site, ada: User):
    scenes.make_run(ada, name="only run")
    page = site.visit("/", user=ada)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("/")
    expect(page.get_by_label("Search by name or id")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="only run")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/runs/"))


def violations_of(page: Page) -> list[tuple[str, list[object]]]:
    """Return the broken rules and the first elements that break them."""
    violations = Axe().run(page, options=WCAG).response["violations"]
    return [(item["id"], [node["target"] for node in item["nodes"]][:3]) for item in violations]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_breaks_wcag_a_or_aa(site: Site, ada: User, tmp_path: Path, scheme: str):
    runs = scenes.every_state(ada, tmp_path)
    ApiToken.issue(owner=ada, name="laptop", scopes=["read"])
    model_id = runs["succeeded"].model_versions.get().model_id
    paths = ["/", "/?status=failed&search=nothing", "/settings/tokens", "/datasets", "/models", f"/models/{model_id}"]
    paths += [f"/runs/{run.pk}" for run in runs.values()]
    version = data_scenes.upload_rows(ada, data_scenes.orders(5))
    paths += [f"/datasets/{version.dataset_id}{name}" for name in ("", "/report", "/columns", "/duplicates", "/versions")]
    page = site.visit("/datasets", user=ada, scheme=scheme)
    found = {}
    for path in paths:
        page.goto(path)
        page.wait_for_timeout(300)
        if path == f"/runs/{runs['succeeded'].pk}":
            page.get_by_role("button", name="Open the report of comparison").click()
            expect(page.get_by_role("dialog")).to_contain_text("Samples")
        violations = Axe().run(page, options=WCAG).response["violations"]
        found[path] = [(item["id"], [node["target"] for node in item["nodes"]][:3]) for item in violations]
    found["/login"] = [
        item["id"] for item in Axe().run(site.visit("/login", scheme=scheme), options=WCAG).response["violations"]
    ]
    assert {path: problems for path, problems in found.items() if problems} == {}


@pytest.mark.parametrize("path", ["/", "/settings/tokens", "/datasets", "/runs/{run}", "/runs/{failed}", "/models/{model}"])
def test_nothing_is_wider_than_a_phone(site: Site, ada: User, tmp_path: Path, path: str):
    runs = scenes.every_state(ada, tmp_path)
    version = runs["succeeded"].model_versions.get()
    path = path.format(run=runs["running"].pk, failed=runs["failed"].pk, model=version.model_id)
    page = site.visit(path, user=ada, width=360)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_script_and_server_write_numbers_alike(site: Site, ada: User):
    from frontend.templatetags import ui

    values = [0.0, 0.2739, 1.73, 12.5, 521.4, 999.6, 12_345.6, 0.00045, 1.9e-05, -3.14159, 1e9, 7, 1_234_567, True, None, "x"]
    seconds = [0.04, 9.96, 42, 59.6, 125, 3599, 11_220, 180_000]
    sizes = [0, 999, 1_490, 98_000_000, 999_600, 1_240_000_000]
    names = ["peak_bytes", "tokens_per_second", "took_seconds", "supervised_tokens", "limit_percent", "grad_norm"]
    page = site.visit("/", user=ada)
    written = page.evaluate(
        """async ([values, seconds, sizes, names]) => {
            const format = await import("/static/frontend/format.js");
            return [values.map(format.number), seconds.map(format.duration), sizes.map(format.size),
                    names.map((name) => `${format.label(name)} ${format.measured(1500.7, name)}`)];
        }""",
        [values, seconds, sizes, names],
    )
    expected = [
        [ui.number(int(value) if isinstance(value, float) and value.is_integer() else value) for value in values],
        [ui.duration(value) for value in seconds],
        [ui.size(value) for value in sizes],
        [f"{ui.label(name)} {ui.measured(1500.7, name)}" for name in names],
    ]
    assert json.dumps(written, ensure_ascii=False) == json.dumps(expected, ensure_ascii=False)
