"""Named data and its immutable versions."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from django.conf import settings
from django.db import models, transaction
from django.db.models.functions import Coalesce, Now

from platform_site.common.models import ScopedQuerySet, UUIDModel


class Dataset(UUIDModel):
    """A name under which versions are kept."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="datasets")
    name = models.CharField(max_length=200)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="dataset_name_unique")]

    def __str__(self) -> str:
        return self.name

    @property
    def latest_version(self) -> DatasetVersion | None:
        """The version with the highest number; reads prefetched versions where there are any."""
        return max(self.versions.all(), key=lambda version: version.number, default=None)


class DatasetVersionQuerySet(ScopedQuerySet):
    owner_path = "dataset__owner"


class DatasetVersion(UUIDModel):
    """A file as it was uploaded or as fixes made it, and what was found in it.

    ``uri`` is the storage name of the original file; ``sha256`` and ``size_bytes`` are its own. ``format`` is the row
    format (alpaca, chat, prompt_completion, text), ``file_format`` the file's (csv, json, jsonl, parquet). A version that
    fixes made names its ``parent`` and the ``changes``; an uploaded one has neither. One that was imported has an ``origin``.
    """

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    file_name = models.CharField(max_length=255)
    file_format = models.CharField(max_length=20)
    format = models.CharField(max_length=40)
    format_reason = models.TextField(blank=True, help_text="Why the row format was chosen.")
    uri = models.CharField(max_length=500)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    rows = models.BigIntegerField()
    columns = models.JSONField(default=list, help_text='[{"name", "type"}]')
    report = models.JSONField(default=dict, help_text="The row-level validation report, in the shape of ReportDocument.")
    statistics = models.JSONField(default=dict, help_text="What the rows are like: lengths, repetitions, splits, labels.")
    parent = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        related_name="children",
        help_text="The version that this one was made from.",
    )
    changes = models.JSONField(
        default=dict, help_text="What was done to the parent's rows: rows_before, rows_after, and the fixes by code."
    )
    origin = models.JSONField(
        default=dict,
        help_text="Where an import found it: repository, commit, split and files of the Hub, or a bucket's address.",
    )

    objects = DatasetVersionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["dataset", "number"], name="dataset_version_number_unique"),
            models.CheckConstraint(condition=models.Q(rows__gte=0, size_bytes__gte=0), name="dataset_version_counts"),
        ]

    def __str__(self) -> str:
        return f"{self.dataset} v{self.number}"

    def save(self, *args: object, **kwargs: object) -> None:
        """Refuse to change a stored version.

        Raises: TypeError: the version is stored already.
        """
        if not self._state.adding:
            raise TypeError(f"DatasetVersion {self.pk} is immutable; make a new version")
        super().save(*args, **kwargs)


class WaitingUpload(UUIDModel):
    """An uploaded file whose rows fit no format by themselves, kept until somebody says what they are.

    ``name`` is that of the dataset it is to be a version of; ``code`` and ``reason`` say why it is none yet.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="waiting_uploads")
    name = models.CharField(max_length=200)
    file_name = models.CharField(max_length=255)
    file_format = models.CharField(max_length=20)
    uri = models.CharField(max_length=500)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    code = models.CharField(max_length=60)
    reason = models.TextField()

    objects = ScopedQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "name", "sha256"], name="waiting_upload_content_unique")]

    def __str__(self) -> str:
        return self.file_name


class MeasurementQuerySet(ScopedQuerySet):
    owner_path = "version__dataset__owner"


class Measurement(UUIDModel):
    """What was counted of a version on demand, and is kept, as neither the version nor the way of counting changes.

    ``subject`` names what it was counted with: of tokens the model, of near duplicates the smallest similarity. ``result`` has
    the shape of ``TokenLengths`` or ``FoundPairs``.
    """

    class Kind(models.TextChoices):
        TOKENS = "tokens"
        NEAR_DUPLICATES = "near_duplicates"

    version = models.ForeignKey(DatasetVersion, on_delete=models.CASCADE, related_name="measurements")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    subject = models.CharField(max_length=300)
    result = models.JSONField()

    objects = MeasurementQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["version", "kind", "subject"], name="measurement_unique")]

    def __str__(self) -> str:
        return f"{self.kind} of {self.version} ({self.subject})"


class PairDecision(UUIDModel):
    """What a person decided about two rows of a version that nearly repeat each other, by their row numbers."""

    class Decision(models.TextChoices):
        KEEP_BOTH = "keep_both"
        DROP_SECOND = "drop_second"
        DROP_FIRST = "drop_first"

    version = models.ForeignKey(DatasetVersion, on_delete=models.CASCADE, related_name="pair_decisions")
    first = models.BigIntegerField(help_text="Number of the row that stands further up.")
    second = models.BigIntegerField()
    decision = models.CharField(max_length=20, choices=Decision.choices)

    objects = MeasurementQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["version", "first", "second"], name="pair_decision_unique")]

    def __str__(self) -> str:
        return f"{self.decision}: rows {self.first} and {self.second} of {self.version}"


class DatasetImportQuerySet(ScopedQuerySet):
    def due(self) -> Self:
        """Return the imports that a worker should take: those that wait, and those whose worker went silent."""
        waits = models.Q(status=DatasetImport.Status.PENDING) & (
            models.Q(not_before__isnull=True) | models.Q(not_before__lte=Now())
        )
        return self.filter(waits | models.Q(status=DatasetImport.Status.RUNNING, lease_expires_at__lt=Now()))

    def fenced(self, held: DatasetImport) -> Self:
        """Return the import as long as the attempt of ``held`` holds it."""
        return self.filter(pk=held.pk, attempt=held.attempt, status=DatasetImport.Status.RUNNING)

    @transaction.atomic
    def claim(self, *, lease: timedelta) -> DatasetImport | None:
        """Return the import that has waited longest, now running under a lease; None if nothing is due."""
        found = self.due().select_for_update(skip_locked=True, no_key=True, of=("self",)).select_related("owner")
        taken = found.order_by("created_at", "pk").first()
        if taken is None:
            return None
        taken.tries += taken.status == DatasetImport.Status.RUNNING
        taken.attempt += 1
        taken.status = DatasetImport.Status.RUNNING
        taken.done_bytes = 0
        taken.save(update_fields=["attempt", "tries", "status", "done_bytes"])
        self.filter(pk=taken.pk).update(lease_expires_at=Now() + lease, started_at=Coalesce("started_at", Now()))
        return taken


class DatasetImport(UUIDModel):
    """Data that a worker brings and makes a version of the dataset ``name``.

    ``source`` is what was asked for; ``origin`` what it turned out to be, pinned by the first attempt that asked the Hub, so
    that every later one brings the same bytes. ``code`` and ``reason`` say why it failed, or waits to be tried again.
    Only the attempt that holds the lease writes: every write of a worker goes through ``fenced``.
    """

    class Status(models.TextChoices):
        PENDING = "pending"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="dataset_imports")
    name = models.CharField(max_length=200)
    source = models.JSONField(help_text='{"type": "hub", "repository", "revision", "subset", "split", "file"} or an address.')
    origin = models.JSONField(default=dict)
    file_format = models.CharField(max_length=20, blank=True)
    columns = models.JSONField(default=dict, help_text="Column of the file for each part of a row, where it was mapped.")
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.PENDING)
    attempt = models.PositiveIntegerField(default=0)
    tries = models.PositiveIntegerField(default=0, help_text="Attempts that failed or lost their worker.")
    not_before = models.DateTimeField(null=True)
    lease_expires_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    done_bytes = models.BigIntegerField(default=0)
    total_bytes = models.BigIntegerField(null=True)
    code = models.CharField(max_length=60, blank=True)
    reason = models.TextField(blank=True)
    version = models.ForeignKey(DatasetVersion, on_delete=models.SET_NULL, null=True, related_name="imports")
    waiting_upload = models.ForeignKey(WaitingUpload, on_delete=models.SET_NULL, null=True, related_name="imports")

    objects = DatasetImportQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(status="running") | models.Q(attempt__gte=1), name="dataset_import_running_has_attempt"
            )
        ]
        indexes = [models.Index(fields=["status", "created_at"], name="dataset_import_waiting")]

    def __str__(self) -> str:
        return f"{self.name} from {self.source.get('repository') or self.source.get('address')}"

    @property
    def is_ended(self) -> bool:
        """Whether no worker will touch it again."""
        return self.status in (self.Status.SUCCEEDED, self.Status.FAILED)
