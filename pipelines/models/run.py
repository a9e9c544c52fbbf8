"""A run and the attempts of its nodes, with the transitions that are legal."""

from __future__ import annotations

from datetime import datetime
from typing import Self
from uuid import UUID

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from pipelines.models.pipeline import PipelineVersion
from platform_site.common.models import ScopedQuerySet, UUIDModel

CLIENT_RUN_ID = RegexValidator(r"^[A-Za-z0-9._-]{1,64}\Z", "A run_id has 1 to 64 letters, digits, dots, dashes or underscores.")


class Status(models.TextChoices):
    """The states of a Run and of a NodeRun."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELING = "canceling"
    CANCELED = "canceled"


TERMINAL = (Status.SUCCEEDED, Status.FAILED, Status.SKIPPED, Status.CANCELED)
LEASED = (Status.RUNNING, Status.CANCELING)

TRANSITIONS: dict[str, tuple[str, ...]] = {
    Status.PENDING: (
        Status.QUEUED,
        Status.RUNNING,
        Status.SUCCEEDED,
        Status.SKIPPED,
        Status.CANCELING,
        Status.CANCELED,
        Status.FAILED,
    ),
    Status.QUEUED: (Status.RUNNING, Status.CANCELED, Status.CANCELING, Status.FAILED, Status.SKIPPED, Status.SUCCEEDED),
    Status.RUNNING: (Status.SUCCEEDED, Status.FAILED, Status.CANCELING, Status.CANCELED, Status.QUEUED),
    Status.CANCELING: (Status.CANCELED, Status.SUCCEEDED, Status.FAILED),
    # A retry opens an ended run again; an ended NodeRun stays ended, its next attempt is a new row.
    Status.FAILED: (Status.RUNNING,),
    Status.CANCELED: (Status.RUNNING,),
    Status.SUCCEEDED: (),
    Status.SKIPPED: (),
}


class ErrorKind(models.TextChoices):
    """Whose fault a failure was."""

    USER = "user"
    RESOURCE = "resource"
    INFRASTRUCTURE = "infrastructure"
    BUG = "bug"


class IllegalTransition(RuntimeError):
    """A status change that the state machine does not know."""


class StatusModel(UUIDModel):
    """Status, its instants and the error that ended it; shared by Run and NodeRun."""

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    error_kind = models.CharField(max_length=14, choices=ErrorKind.choices, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.TextField(blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.status in TERMINAL

    def move_to(self, status: str, *, now: datetime | None = None) -> list[str]:
        """Change the status in memory and return the names of the changed fields, for ``save(update_fields=…)``.

        Raises: IllegalTransition: ``status`` cannot follow the present one.
        """
        if status not in TRANSITIONS[self.status]:
            raise IllegalTransition(f"{type(self).__name__} {self.pk}: {self.status} cannot become {status}")
        now = now or timezone.now()
        self.status = status
        changed = ["status"]
        if status == Status.RUNNING:
            self.started_at = self.started_at or now
            self.finished_at = None
            changed += ["started_at", "finished_at"]
        elif status in TERMINAL:
            self.finished_at = now
            changed.append("finished_at")
        return changed

    def set_error(self, *, kind: str, code: str, message: str) -> list[str]:
        """Set the error in memory and return the names of the changed fields."""
        self.error_kind, self.error_code, self.error_message = kind, code[:64], message
        return ["error_kind", "error_code", "error_message"]


class RunQuerySet(ScopedQuerySet):
    def active(self) -> Self:
        """Return runs that have not ended."""
        return self.exclude(status__in=TERMINAL)

    def referred_to_as(self, reference: str) -> Self:
        """Return the run whose id is ``reference`` or, where there is none, that was given it as client_run_id.

        Scope it by ``visible_to`` first: two owners may use the same client_run_id.
        """
        try:
            by_id = self.filter(pk=UUID(reference))
        except ValueError:
            return self.filter(client_run_id=reference)
        return by_id if by_id.exists() else self.filter(client_run_id=reference)


class Run(StatusModel):
    """One execution of one PipelineVersion. ``last_seq`` is the number of its newest event."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="runs")
    version = models.ForeignKey(PipelineVersion, on_delete=models.PROTECT, related_name="runs")
    name = models.CharField(max_length=200, blank=True)
    # null, not empty: many runs have none, and the constraint below is on those that have one
    client_run_id = models.CharField(max_length=64, null=True, blank=True, validators=[CLIENT_RUN_ID])  # noqa: DJ001
    idempotency_key = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001
    request_digest = models.CharField(max_length=64, blank=True, help_text="SHA-256 of the request, for the idempotency key.")
    parameters = models.JSONField(default=dict, blank=True)
    ignore_cache = models.BooleanField(default=False)
    priority = models.SmallIntegerField(default=0, help_text="Higher runs first.")
    error_node = models.CharField(max_length=100, blank=True)
    last_seq = models.BigIntegerField(default=0)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "client_run_id"], name="run_client_run_id_unique"),
            models.UniqueConstraint(fields=["owner", "idempotency_key"], name="run_idempotency_key_unique"),
            models.CheckConstraint(condition=models.Q(status__in=Status.values), name="run_status_known"),
        ]
        indexes = [models.Index(fields=["status", "created_at"], name="run_status_created")]

    def __str__(self) -> str:
        return self.name or self.client_run_id or str(self.id)


class NodeRunQuerySet(ScopedQuerySet):
    owner_path = "run__owner"

    def latest_attempts(self) -> Self:
        """Return each node's newest attempt only."""
        newest = self.model.objects.order_by("run_id", "node", "-attempt").distinct("run_id", "node")
        return self.filter(pk__in=newest.values("pk"))

    def leased(self) -> Self:
        """Return attempts that a worker holds."""
        return self.filter(status__in=LEASED)

    def with_expired_lease(self) -> Self:
        """Return attempts whose worker has not renewed its lease in time."""
        return self.leased().filter(lease_expires_at__lt=Now())  # the database's clock, as for the renewals

    def fenced(self, *, node_run_id: object, attempt: int, worker: str) -> Self:
        """Return the attempt if ``worker`` still holds it: every write of an attempt goes through this."""
        return self.leased().filter(pk=node_run_id, attempt=attempt, lease_worker=worker)


class NodeRun(StatusModel):
    """One attempt of one node. ``attempt`` is its fence."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="node_runs")
    node = models.CharField(max_length=100)
    agent = models.CharField(max_length=100, help_text="Class name of the agent.")
    queue = models.CharField(max_length=20)
    attempt = models.PositiveIntegerField(default=1)
    tries = models.PositiveIntegerField(
        default=1, help_text="Attempts that count against the limit, this one included; a retry by hand starts again at 1."
    )
    config = models.JSONField(default=dict, help_text="Complete config, defaults filled in.")
    references = models.JSONField(
        default=dict, help_text='What config references resolved to: {"<reference>": {"digest": …, "source": …}}.'
    )
    cached = models.BooleanField(default=False)
    cache_key = models.CharField(max_length=64, blank=True, db_index=True)
    cache_parts = models.JSONField(default=dict, help_text="What the cache key was made of.")
    cache_note = models.TextField(blank=True, help_text="Why the cache hit or missed.")
    not_before = models.DateTimeField(null=True, blank=True, help_text="A retry waits until then.")
    queued_at = models.DateTimeField(null=True, blank=True)
    lease_worker = models.CharField(max_length=200, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    fraction = models.FloatField(default=0.0)
    step = models.PositiveIntegerField(null=True, blank=True)
    total_steps = models.PositiveIntegerField(null=True, blank=True)
    metrics = models.JSONField(default=dict, help_text="Latest value of each metric.")
    error_field = models.CharField(max_length=200, blank=True)
    error_evidence = models.JSONField(default=dict, blank=True)

    objects = NodeRunQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "node", "attempt"], name="node_run_attempt_unique"),
            models.CheckConstraint(condition=models.Q(status__in=Status.values), name="node_run_status_known"),
            models.CheckConstraint(condition=models.Q(fraction__gte=0, fraction__lte=1), name="node_run_fraction_range"),
        ]
        indexes = [
            models.Index(fields=["queue", "queued_at"], condition=models.Q(status="queued"), name="node_run_waiting"),
            models.Index(
                fields=["lease_expires_at"], condition=models.Q(status__in=["running", "canceling"]), name="node_run_leases"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.node} #{self.attempt}"
