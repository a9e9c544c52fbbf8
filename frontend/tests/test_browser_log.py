"""The live log in a real Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from frontend.tests.browsing import Site
from pipelines import events
from pipelines.events import EventLine
from pipelines.models import Run, Status
from pipelines.tests import scenes
from platform_site.models import User

pytestmark = pytest.mark.browser


def shown_numbers(page: Page) -> list[int]:
    """Return the numbers of the lines on the page, in order."""
    return page.eval_on_selector_all(".line", "lines => lines.map((line) => Number(line.dataset.seq))")


def test_log_streams_live_and_survives_cut_connections_without_gap_or_repeat(site: Site, ada: User):
    run = scenes.make_run(ada, name="live", status=Status.RUNNING)
    for number in range(1, 4):
        scenes.say(run, "training", f"before {number}")
    page = site.visit(f"/runs/{run.pk}", user=ada)
    expect(page.locator("#log-connection")).to_have_text("live")
    expect(page.locator(".line")).to_have_count(3)
    for cut in range(3):
        assert site.proxy.cut() >= 1
        for number in range(1, 6):
            scenes.say(run, "training", f"after cut {cut}, line {number}")
        expect(page.locator("#log-seq")).to_have_text(str(3 + 5 * (cut + 1)), timeout=15_000)
    Run.objects.filter(pk=run.pk).update(status=Status.SUCCEEDED)
    scenes.say(run, "", "run succeeded", kind="status")
    expect(page.locator("#log-connection")).to_have_text("complete")
    assert shown_numbers(page) == list(range(1, 20))
    site.complaints.clear()  # Chromium reports each cut socket as an error


def test_log_falls_back_to_server_sent_events_and_then_to_polling(site: Site, ada: User):
    run = scenes.make_run(ada, name="no sockets", status=Status.RUNNING)
    scenes.say(run, "training", "one")
    page = site.visit("/", user=ada)
    page.route_web_socket(re.compile("/ws/"), lambda socket: socket.close(code=1011))
    page.goto(f"/runs/{run.pk}")
    expect(page.locator("#log-connection")).to_have_text("live, by server-sent events", timeout=20_000)
    scenes.say(run, "training", "two")
    expect(page.locator(".line")).to_have_count(2)
    page.route("**/logs/stream/**", lambda route: route.abort())
    site.proxy.cut()
    expect(page.locator("#log-connection")).to_have_text("live, asking every 2 s", timeout=30_000)
    scenes.say(run, "training", "three")
    expect(page.locator(".line")).to_have_count(3)
    assert shown_numbers(page) == [1, 2, 3]
    site.complaints.clear()  # the refused connections


def test_log_text_is_never_markup(site: Site, ada: User):
    run = scenes.make_run(ada, name="attack", status=Status.RUNNING)
    attack = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    scenes.say(run, "training", attack, note=attack)
    page = site.visit(f"/runs/{run.pk}", user=ada)
    expect(page.locator(".line .message")).to_contain_text(attack)
    assert page.locator(".line img, .line script").count() == 0
    assert page.title().startswith("attack")


def make_long_log(run: Run, count: int) -> None:
    """Write ``count`` lines: an error at 1,234, every tenth of the evaluation node."""
    lines = [
        EventLine(
            type="log",
            node="evaluation" if number % 10 == 0 else "training",
            message=f"line {number}",
            level="ERROR" if number == 1234 else "INFO",
        )
        for number in range(1, count + 1)
    ]
    events.append(run.pk, lines)


def test_a_long_log_is_a_window_that_goes_anywhere(site: Site, ada: User):
    run = scenes.make_run(ada, name="long", status=Status.RUNNING)
    make_long_log(run, 6000)
    page = site.visit(f"/runs/{run.pk}", user=ada)
    expect(page.locator("#log-seq")).to_have_text("6000")
    assert shown_numbers(page) == list(range(5001, 6001))

    page.get_by_role("button", name="First error").click()
    expect(page.locator("#seq-1234")).to_be_in_viewport()
    assert page.url.endswith("#seq-1234")
    assert page.locator("#seq-1234").get_attribute("class") == "line is-target"

    scenes.say(run, "training", "news")
    expect(page.get_by_role("button", name="Follow · 1 new line")).to_be_visible()
    for _ in range(12):  # up to the first line, page by page
        page.locator("#log-lines").evaluate("box => { box.scrollTop = 0 }")
        page.wait_for_timeout(120)
    expect(page.locator("#seq-1")).to_be_attached()
    numbers = shown_numbers(page)
    assert numbers == list(range(1, numbers[-1] + 1))
    assert len(numbers) <= 2000

    page.get_by_role("button", name="Follow").click()
    expect(page.locator("#seq-6001")).to_be_in_viewport()
    assert page.locator("#log-follow").is_hidden()


def test_the_window_never_holds_more_than_two_thousand_lines(site: Site, ada: User):
    run = scenes.make_run(ada, name="flood", status=Status.RUNNING)
    page = site.visit(f"/runs/{run.pk}", user=ada)
    expect(page.locator("#log-connection")).to_have_text("live")
    make_long_log(run, 5000)
    expect(page.locator("#log-seq")).to_have_text("5000", timeout=30_000)
    assert shown_numbers(page) == list(range(3001, 5001))


def test_a_reader_who_scrolls_up_is_left_in_place(site: Site, ada: User):
    run = scenes.make_run(ada, name="stay", status=Status.RUNNING)
    make_long_log(run, 300)
    page = site.visit(f"/runs/{run.pk}", user=ada)
    expect(page.locator("#log-seq")).to_have_text("300")
    page.locator("#log-lines").evaluate("box => { box.scrollTop = 1500 }")
    expect(page.get_by_role("button", name="Follow")).to_be_visible()
    before = page.locator("#log-lines").evaluate("box => box.scrollTop")
    make_long_log(run, 50)
    expect(page.get_by_role("button", name="Follow · 50 new lines")).to_be_visible()
    assert page.locator("#log-lines").evaluate("box => box.scrollTop") == before


def test_log_filters_by_level_node_and_words_on_the_server(site: Site, ada: User):
    run = scenes.make_run(ada, name="filter", status=Status.RUNNING)
    make_long_log(run, 3000)
    page = site.visit(f"/runs/{run.pk}", user=ada)
    expect(page.locator("#log-seq")).to_have_text("3000")
    page.get_by_label("Least level").select_option("ERROR")
    expect(page.locator(".line")).to_have_count(1)
    assert shown_numbers(page) == [1234]
    page.get_by_label("Least level").select_option("")
    page.get_by_label("Node", exact=True).select_option("evaluation")
    page.get_by_label("Search the messages").fill("LINE 29")
    expect(page.locator(".line")).to_have_count(11)
    assert shown_numbers(page) == [290, *range(2900, 3000, 10)]
    scenes.say(run, "training", "line 29 of another node")
    scenes.say(run, "evaluation", "line 29, new")
    expect(page.locator(".line")).to_have_count(12)
    assert shown_numbers(page)[-1] == 3002
    page.get_by_label("Search the messages").fill("no such words")
    expect(page.get_by_text("No line fits this filter.")).to_be_visible()


def test_a_permalink_opens_at_its_line(site: Site, ada: User):
    run = scenes.make_run(ada, name="link", status=Status.RUNNING)
    make_long_log(run, 3000)
    page = site.visit(f"/runs/{run.pk}#seq-700", user=ada)
    expect(page.locator("#seq-700")).to_be_in_viewport()
    expect(page.locator("#seq-700")).to_have_class("line is-target")


def test_copy_gives_the_lines_as_text(site: Site, ada: User):
    run = scenes.failed_run(ada)
    page = site.visit(f"/runs/{run.pk}", user=ada)
    expect(page.locator("#log-connection")).to_have_text("complete")
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#toasts")).to_contain_text("5 lines copied")
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert len(copied) == 5
    assert copied[2].endswith("WARNING validation Row 17 has no completion row=17")


def test_retry_opens_a_failed_run_and_its_log_again(site: Site, ada: User):
    run = scenes.failed_run(ada)
    page = site.visit(f"/runs/{run.pk}", user=ada)
    expect(page.locator("#log-connection")).to_have_text("complete")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#toasts")).to_contain_text("The run goes on.")
    expect(page.locator(".line", has_text="run opened again")).to_be_visible()
    numbers = shown_numbers(page)
    assert numbers == list(range(1, numbers[-1] + 1))
