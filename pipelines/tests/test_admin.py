from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from pipelines.models import NodeRun, Run, Status
from pipelines.tests import scenes
from platform_site.models import User

pytestmark = pytest.mark.django_db

RUNS = "admin:pipelines_run_changelist"
NODE_RUNS = "admin:pipelines_noderun_changelist"


@pytest.fixture
def operator(client):
    client.force_login(User.objects.create_superuser("operator", password="a long enough password"))
    return client


def act(client, page: str, action: str, row) -> str:
    answer = client.post(reverse(page), {"action": action, "_selected_action": [row.pk]}, follow=True)
    return " ".join(str(message) for message in answer.context["messages"])


def test_cancel_asks_the_run_to_stop(operator, user):
    run = scenes.running_run(user)
    assert "asked to stop" in act(operator, RUNS, "cancel", run)
    run.refresh_from_db()
    assert run.status == Status.CANCELING


def test_cancel_of_an_ended_run_says_why_not(operator, user):
    run = scenes.failed_run(user)
    assert "the run has ended" in act(operator, RUNS, "cancel", run)


def test_retry_opens_the_run_again(operator, user):
    run = scenes.failed_run(user)
    assert "queued again" in act(operator, RUNS, "retry", run)
    assert NodeRun.objects.filter(run=run, node="validation", attempt=2).exists()


def test_requeue_takes_the_lease_from_the_worker(operator, user):
    run = scenes.running_run(user)
    attempt = NodeRun.objects.get(run=run, node="training")
    assert "queued again" in act(operator, NODE_RUNS, "requeue", attempt)
    assert not NodeRun.objects.leased().filter(pk=attempt.pk).exists()
    assert NodeRun.objects.get(run=run, node="training", attempt=2).status == Status.QUEUED


def test_leases_are_listed_by_held_and_expired(operator, user):
    run = scenes.running_run(user)
    held = operator.get(reverse(NODE_RUNS), {"lease": "held"}).context["cl"].queryset
    assert [row.node for row in held] == ["training"]
    assert not operator.get(reverse(NODE_RUNS), {"lease": "expired"}).context["cl"].queryset.exists()
    NodeRun.objects.filter(run=run, node="training").update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert operator.get(reverse(NODE_RUNS), {"lease": "expired"}).context["cl"].queryset.count() == 1


def test_runs_are_filtered_by_agent(operator, user):
    scenes.running_run(user)
    assert operator.get(reverse(RUNS), {"agent": "TrainingAgent"}).context["cl"].queryset.count() == 1
    assert operator.get(reverse(RUNS), {"agent": "NoAgent"}).context["cl"].queryset.count() == 0


def test_a_run_shows_its_newest_lines_escaped(operator, user):
    run = scenes.running_run(user)
    scenes.say(run, "training", "<b>bold</b>")
    html = operator.get(reverse("admin:pipelines_run_change", args=[run.pk])).content.decode()
    assert "&lt;b&gt;bold&lt;/b&gt;" in html
    assert "Training step completed" in html


def test_lineage_links_artifacts(operator, user, tmp_path):
    run = scenes.succeeded_run(user, tmp_path)
    report, model = (run.owner.artifacts.get(kind=kind) for kind in ("report", "model"))
    report.parents.add(model)
    shown = operator.get(reverse("admin:pipelines_artifact_change", args=[report.pk])).content.decode()
    assert reverse("admin:pipelines_artifact_change", args=[model.pk]) in shown


def test_no_run_can_be_deleted(operator, user):
    run = scenes.running_run(user)
    operator.post(reverse(RUNS), {"action": "delete_selected", "_selected_action": [run.pk], "post": "yes"})
    assert Run.objects.filter(pk=run.pk).exists()


def test_the_run_page_is_linked_where_the_operator_can_open_it(operator, user):
    own = scenes.make_run(User.objects.get(username="operator"), name="own")
    theirs = scenes.make_run(user, name="theirs")
    html = operator.get(reverse(RUNS)).content.decode()
    assert f'href="/runs/{own.pk}"' in html
    assert f'href="/runs/{theirs.pk}"' not in html
