"""Runs and node runs: read, cancel, retry, requeue."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from pipelines.models import NodeRun, NodeRunOutput, Run, Worker
from pipelines.services import cancel_run, requeue_node_run, retry_run
from platform_site.common.admin import ReadOnlyAdmin, as_json, link_to, status_of
from platform_site.common.errors import DomainError

NEWEST_LINES = 200


class AgentFilter(admin.SimpleListFilter):
    """Runs that have a node of an agent."""

    title = "agent"
    parameter_name = "agent"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:  # noqa: ARG002
        names = NodeRun.objects.order_by("agent").values_list("agent", flat=True).distinct()
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:  # noqa: ARG002
        if not self.value():
            return queryset
        return queryset.filter(pk__in=NodeRun.objects.filter(agent=self.value()).values("run"))


class LeaseFilter(admin.SimpleListFilter):
    """Attempts that a worker holds, or should no longer hold."""

    title = "lease"
    parameter_name = "lease"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:  # noqa: ARG002
        return [("held", "held by a worker"), ("expired", "expired")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[NodeRun]) -> QuerySet[NodeRun]:  # noqa: ARG002
        choices: dict[str | None, Callable[[], QuerySet[NodeRun]]] = {
            "held": queryset.leased,
            "expired": queryset.with_expired_lease,
        }
        return choices.get(self.value(), queryset.all)()


class NodeRunInline(admin.TabularInline):
    """A run's attempts on its page."""

    model = NodeRun
    fields = readonly_fields = ["attempt_link", "agent", "status", "cached", "started_at", "finished_at", "error_message"]
    ordering = ["created_at", "node", "attempt"]
    extra = 0
    can_delete = False
    verbose_name_plural = "attempts"

    def has_add_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:  # noqa: ARG002
        return False

    @admin.display(description="attempt")
    def attempt_link(self, row: NodeRun) -> SafeString | None:
        return link_to(row)


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    """Runs of all owners."""

    list_display = ["__str__", "state", "owner", "created_at", "started_at", "finished_at", "priority", "error_kind", "page"]
    list_filter = ["status", "error_kind", AgentFilter, ("owner", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["owner"]
    search_fields = ["name", "client_run_id", "id", "owner__username"]
    ordering = ["-created_at"]
    inlines = [NodeRunInline]
    actions = ["cancel", "retry"]
    fields = [
        "id", "name", "client_run_id", "owner", "version_link", "state", "page", "created_at", "started_at", "finished_at",
        "cancel_requested_at", "priority", "ignore_cache", "parameters", "error_kind", "error_code", "error_node",
        "error_message", "last_seq", "newest_lines",
    ]  # fmt: skip
    readonly_fields = ["id", "version_link", "state", "page", "created_at", "newest_lines"]

    @admin.display(description="status", ordering="status")
    def state(self, row: Run) -> SafeString:
        return status_of(row)

    @admin.display(description="version")
    def version_link(self, row: Run) -> SafeString | None:
        return link_to(row.version)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        return super().get_queryset(request).annotate(is_own=Q(owner=request.user))

    @admin.display(description="page")
    def page(self, row: Run) -> SafeString | None:
        """Link to the run's page on the site, which only its owner can open."""
        if not row.is_own:
            return None
        return format_html('<a href="{}">Run page</a>', reverse("run", args=[row.pk]))

    @admin.display(description=f"newest {NEWEST_LINES} lines")
    def newest_lines(self, row: Run) -> SafeString:
        newest = list(row.events.order_by("-seq")[:NEWEST_LINES])[::-1]
        lines = ((e.seq, f"{e.timestamp:%H:%M:%S}", e.level, e.node or "-", e.message) for e in newest)
        return format_html('<pre class="lines">{}</pre>', format_html_join("", "{} {} {} {} {}\n", lines))

    @admin.action(description="Cancel the selected runs", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Ask the runs to stop."""
        self._for_each(request, queryset, lambda run: cancel_run(run=run, user=request.user), "asked to stop")

    @admin.action(description="Requeue (retry) the selected runs", permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Run again what failed, from checkpoints."""
        self._for_each(request, queryset, lambda run: retry_run(run=run, user=request.user), "queued again")

    def _for_each(self, request: HttpRequest, rows: QuerySet[Run], act: Callable[[Run], object], done: str) -> None:
        for run in rows:
            try:
                act(run)
            except DomainError as error:
                self.message_user(request, f"{run}: {error.detail}", messages.ERROR)
            else:
                self.message_user(request, f"{run}: {done}.", messages.SUCCESS)


class OutputInline(admin.TabularInline):
    """What an attempt gave."""

    model = NodeRunOutput
    fields = readonly_fields = ["port", "position", "artifact_link"]
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: NodeRun | None = None) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: NodeRun | None = None) -> bool:  # noqa: ARG002
        return False

    @admin.display(description="artifact")
    def artifact_link(self, row: NodeRunOutput) -> SafeString | None:
        return link_to(row.artifact)


@admin.register(NodeRun)
class NodeRunAdmin(ReadOnlyAdmin):
    """Attempts, with the leases of those that run."""

    list_display = [
        "__str__", "run_link", "agent", "state", "queue", "attempt", "lease_worker", "lease_expires_at", "percent", "cached",
        "error_kind",
    ]  # fmt: skip
    list_filter = [LeaseFilter, "status", "queue", "agent", "error_kind", "cached"]
    list_select_related = ["run"]
    search_fields = ["node", "lease_worker", "run__id", "run__name", "run__client_run_id"]
    ordering = ["-created_at"]
    inlines = [OutputInline]
    actions = ["requeue"]
    fields = [
        "id", "node", "run_link", "agent", "queue", "attempt", "state", "percent", "step", "total_steps", "queued_at",
        "started_at", "finished_at", "not_before", "lease_worker", "lease_expires_at", "cached", "cache_note", "cache_key",
        "config_json", "references_json", "metrics_json", "error_kind", "error_code", "error_field", "error_message",
        "evidence_json",
    ]  # fmt: skip
    readonly_fields = [name for name in fields if name.endswith(("_json", "_link"))] + ["id", "state", "percent"]

    @admin.display(description="status", ordering="status")
    def state(self, row: NodeRun) -> SafeString:
        return status_of(row)

    @admin.display(description="run", ordering="run__created_at")
    def run_link(self, row: NodeRun) -> SafeString | None:
        return link_to(row.run)

    @admin.display(description="done", ordering="fraction")
    def percent(self, row: NodeRun) -> str:
        return f"{100 * row.fraction:.0f} %"

    @admin.display(description="config")
    def config_json(self, row: NodeRun) -> SafeString:
        return as_json(row.config)

    @admin.display(description="references")
    def references_json(self, row: NodeRun) -> SafeString:
        return as_json(row.references)

    @admin.display(description="metrics")
    def metrics_json(self, row: NodeRun) -> SafeString:
        return as_json(row.metrics)

    @admin.display(description="evidence")
    def evidence_json(self, row: NodeRun) -> SafeString:
        return as_json(row.error_evidence)

    @admin.action(description="Requeue the selected attempts (take the lease away)", permissions=["operate"])
    def requeue(self, request: HttpRequest, queryset: QuerySet[NodeRun]) -> None:
        """Take the lease from its worker; the node goes on from its newest checkpoint in a new attempt."""
        for node_run in queryset:
            try:
                requeue_node_run(node_run=node_run)
            except DomainError as error:
                self.message_user(request, f"{node_run}: {error.detail}", messages.ERROR)
            else:
                self.message_user(request, f"{node_run}: queued again.", messages.SUCCESS)


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """Workers that have reported themselves, and whether they still do."""

    list_display = ["name", "is_alive", "queue", "slots", "devices", "held", "started_at", "last_seen_at"]
    list_filter = ["queue"]
    search_fields = ["name"]
    ordering = ["-last_seen_at"]

    @admin.display(description="alive", boolean=True)
    def is_alive(self, row: Worker) -> bool:
        return Worker.objects.alive().filter(pk=row.pk).exists()

    @admin.display(description="leases")
    def held(self, row: Worker) -> int:
        return NodeRun.objects.leased().filter(lease_worker=row.name).count()
