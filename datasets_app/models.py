"""Named data and its immutable versions."""

from __future__ import annotations

from django.conf import settings
from django.db import models

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
    fixes made names its ``parent`` and the ``changes``; an uploaded one has neither.
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
