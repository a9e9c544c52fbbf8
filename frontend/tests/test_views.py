from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from datasets_app.models import Dataset, DatasetVersion
from frontend import rows
from pipelines.models import NodeRun, Run, Status
from pipelines.tests import scenes
from platform_site.models import ApiToken

pytestmark = pytest.mark.django_db


@pytest.fixture
def signed_in(client, user):
    client.force_login(user)
    return client


PAGES = ["/", "/datasets", "/models", "/settings/tokens"]


@pytest.mark.parametrize("path", PAGES)
def test_pages_ask_a_stranger_to_log_in(client, path):
    answer = client.get(path)
    assert answer.status_code == 302
    assert answer.url.startswith("/login?next=")


@pytest.mark.parametrize("path", PAGES)
def test_empty_pages_say_what_to_do_next(signed_in, path):
    answer = signed_in.get(path)
    assert answer.status_code == 200
    assert "empty" in answer.content.decode()


def test_login_returns_to_the_page_that_was_asked_for(client, user):
    answer = client.post("/login", {"username": "ada", "password": "correct horse battery", "next": "/settings/tokens"})
    assert answer.url == "/settings/tokens"


def test_login_does_not_leave_the_site(client, user):
    answer = client.post("/login", {"username": "ada", "password": "correct horse battery", "next": "https://evil.example/"})
    assert answer.url == "/"


def test_a_wrong_password_is_said_in_an_alert(client, user):
    answer = client.post("/login", {"username": "ada", "password": "wrong"})
    assert 'role="alert"' in answer.content.decode()


def test_logout_needs_a_post(signed_in):
    assert signed_in.get("/logout").status_code == 405
    assert signed_in.post("/logout").url == "/login"


def test_pages_allow_scripts_of_this_site_only(signed_in):
    policy = signed_in.get("/").headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe-eval" not in policy


def test_no_template_has_inline_scripts_or_styles(signed_in, user, tmp_path):
    run = scenes.failed_run(user)
    for path in [*PAGES, f"/runs/{run.pk}"]:
        html = signed_in.get(path).content.decode()
        assert " style=" not in html
        assert "<style" not in html
        assert html.count("<script") == html.count("<script src=") + html.count('<script type="module" src=')


def test_the_list_shows_own_runs_only(signed_in, other_user, user):
    scenes.make_run(user, name="mine")
    scenes.make_run(other_user, name="theirs")
    html = signed_in.get("/").content.decode()
    assert "mine" in html
    assert "theirs" not in html


def test_a_strangers_run_is_not_found(signed_in, other_user):
    run = scenes.make_run(other_user, name="theirs", client_run_id="theirs-1")
    for path in (f"/runs/{run.pk}", "/runs/theirs-1", f"/runs/{run.pk}/log.txt", f"/runs/{run.pk}?fragment=1"):
        assert signed_in.get(path).status_code == 404


def test_a_run_is_found_by_id_and_by_the_clients_name(signed_in, user):
    run = scenes.make_run(user, name="mine", client_run_id="orders-1")
    assert signed_in.get(f"/runs/{run.pk}").context["run"] == run
    assert signed_in.get("/runs/orders-1").context["run"] == run


@pytest.mark.parametrize(("query", "names"), [("status=failed", {"b"}), ("status=active", {"a"}), ("search=ALP", {"a"})])
def test_runs_are_filtered_by_status_and_name(signed_in, user, query, names):
    scenes.make_run(user, name="a", status=Status.RUNNING, client_run_id="alpha")
    scenes.make_run(user, name="b", status=Status.FAILED)
    page = signed_in.get(f"/?{query}").context["page"]
    assert {row.run.name for row in page.rows} == names


def test_runs_are_found_by_the_start_of_their_id(signed_in, user):
    run = scenes.make_run(user, name="a")
    scenes.make_run(user, name="b")
    page = signed_in.get("/", {"search": str(run.pk)[:8].upper()}).context["page"]
    assert [row.run for row in page.rows] == [run]


def test_characters_that_no_text_can_hold_find_nothing(signed_in, user):
    scenes.make_run(user, name="a")
    assert signed_in.get("/?search=%00").context["page"].rows == []
    assert signed_in.get("/runs/%00").status_code == 404


def test_an_unknown_filter_is_not_found(signed_in):
    assert signed_in.get("/?status=nonsense").status_code == 404
    assert signed_in.get("/?before=nonsense").status_code == 404


def test_older_goes_through_all_runs_once(signed_in, user, monkeypatch):
    monkeypatch.setattr(rows, "PAGE_RUNS", 4)
    made = [scenes.make_run(user, name=f"run {number}") for number in range(10)]
    Run.objects.update(created_at=timezone.now())  # all at one instant: the id decides
    seen, path = [], "/"
    while path:
        context = signed_in.get(path).context
        seen += [row.run.pk for row in context["page"].rows]
        path = f"/?{context['older_query']}" if context["older_query"] else ""
    assert len(seen) == 10
    assert set(seen) == {run.pk for run in made}


def test_the_list_takes_as_many_queries_for_thirty_runs_as_for_one(signed_in, user, django_assert_max_num_queries):
    for number in range(12):
        scenes.make_run(user, name=f"run {number}")
    with django_assert_max_num_queries(6):
        signed_in.get("/")


def test_nodes_come_in_the_order_in_which_they_can_run(signed_in, user):
    run = scenes.make_run(user, name="a")
    row = signed_in.get(f"/runs/{run.pk}").context["row"]
    assert [node.name for node in row.nodes] == list(scenes.NODES)


def test_order_does_not_follow_the_order_of_the_json():
    graph = {
        "nodes": [{"agent_name": name, "agent_class": "X"} for name in ("last", "first", "middle")],
        "edges": [{"from_agent": "first", "to_agent": "middle"}, {"from_agent": "middle", "to_agent": "last"}],
    }
    assert [name for name, _ in rows.graph_order(graph)] == ["first", "middle", "last"]


def test_only_the_newest_attempt_of_a_node_is_shown(signed_in, user):
    run = scenes.make_run(user, name="a", status=Status.RUNNING)
    NodeRun.objects.filter(run=run, node="training").update(status=Status.FAILED)
    NodeRun.objects.create(run=run, node="training", agent="TrainingAgent", queue="gpu", attempt=2, status=Status.RUNNING)
    row = signed_in.get(f"/runs/{run.pk}").context["row"]
    training = next(node for node in row.nodes if node.name == "training")
    assert (training.attempt.attempt, training.status) == (2, "running")


def test_time_left_follows_the_pace_of_the_last_steps(signed_in, user):
    run = scenes.running_run(user)  # one step a second, 128 of 210 done
    row = signed_in.get(f"/runs/{run.pk}").context["row"]
    assert row.eta_seconds == pytest.approx(82, abs=1)


def test_a_resumed_attempt_is_not_judged_by_its_elapsed_time(signed_in, user):
    run = scenes.running_run(user)
    NodeRun.objects.filter(run=run, node="training").update(started_at=timezone.now() - timedelta(seconds=2))
    assert signed_in.get(f"/runs/{run.pk}").context["row"].eta_seconds == pytest.approx(82, abs=1)


def test_a_failed_run_shows_cause_evidence_and_next_step(signed_in, user):
    run = scenes.failed_run(user)
    html = signed_in.get(f"/runs/{run.pk}").content.decode()
    for text in ("validation failed", "41 of 500 rows", "too_many_broken_rows", "max_broken_fraction", "What to do."):
        assert text in html


@pytest.mark.parametrize(
    ("status", "actions"), [("running", ["cancel"]), ("failed", ["retry"]), ("canceling", []), ("succeeded", [])]
)
def test_a_run_offers_only_what_can_be_done(signed_in, user, status, actions):
    run = scenes.make_run(user, name="a", status=status)
    html = signed_in.get(f"/runs/{run.pk}").content.decode()
    assert [name for name in ("cancel", "retry") if f'data-action="{name}"' in html] == actions


def test_names_and_messages_are_escaped(signed_in, user):
    attack = "<script>alert(1)</script>"
    run = scenes.make_run(user, name=attack, status=Status.FAILED, error_kind="user", error_message=attack, error_code="x")
    for path in ("/", f"/runs/{run.pk}"):
        assert attack not in signed_in.get(path).content.decode()


def test_the_log_downloads_as_text_and_as_json_lines(signed_in, user):
    run = scenes.failed_run(user)
    text = b"".join(signed_in.get(f"/runs/{run.pk}/log.txt")).decode().splitlines()
    lines = b"".join(signed_in.get(f"/runs/{run.pk}/log.jsonl")).decode().splitlines()
    run.refresh_from_db()
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, run.last_seq + 1))
    assert len(text) == run.last_seq
    assert "Row 17 has no completion  row=17" in text[2]
    assert signed_in.get(f"/runs/{run.pk}/log.html").status_code == 404


def test_tokens_that_were_revoked_are_not_listed(signed_in, user):
    ApiToken.issue(owner=user, name="kept", scopes=["read"])
    token, key = ApiToken.issue(owner=user, name="gone", scopes=["read"])
    ApiToken.objects.filter(pk=token.pk).update(revoked_at=timezone.now())
    html = signed_in.get("/settings/tokens").content.decode()
    assert "kept" in html
    assert "gone" not in html
    assert key not in html


def test_a_dataset_shows_its_newest_version(signed_in, user, other_user):
    dataset = Dataset.objects.create(owner=user, name="orders")
    for number in (1, 2):
        DatasetVersion.objects.create(
            dataset=dataset, number=number, file_name="orders.csv", file_format="csv", format="alpaca", uri="x",
            sha256="0" * 64, size_bytes=1490, rows=100 * number,
        )  # fmt: skip
    assert "200" in signed_in.get("/datasets").content.decode()
    assert f"dataset:{dataset.pk}@2" in signed_in.get(f"/datasets/{dataset.pk}").content.decode()
    theirs = Dataset.objects.create(owner=other_user, name="theirs")
    assert signed_in.get(f"/datasets/{theirs.pk}").status_code == 404


def test_a_model_shows_scores_run_and_download(signed_in, user, tmp_path):
    run = scenes.succeeded_run(user, tmp_path)
    version = run.model_versions.get()
    assert "orders" in signed_in.get("/models").content.decode()
    html = signed_in.get(f"/models/{version.model_id}").content.decode()
    for text in (f"/runs/{run.pk}", f"/api/v1/models/{version.pk}/download", "exact match", f"model:{version.pk}"):
        assert text in html


def test_a_missing_page_is_a_page_not_json(signed_in):
    answer = signed_in.get("/no/such/page")
    assert answer.status_code == 404
    assert "Nothing here" in answer.content.decode()
