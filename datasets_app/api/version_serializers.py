"""Fixes and differences of dataset versions, as the REST API shows them."""

from __future__ import annotations

from rest_framework import serializers

from celery_workers.data.fixes import ACTIONS
from datasets_app.api.serializers import VersionQuerySerializer, VersionSerializer
from datasets_app.models import DatasetVersion

_LAST_NUMBER = 2**31 - 1


class ProposalSerializer(serializers.Serializer):
    """A fix that the report suggests."""

    code = serializers.CharField()
    action = serializers.CharField(help_text="drop, strip, repair or mask.")
    rows = serializers.IntegerField(help_text="Rows that have the problem.")
    meaning = serializers.CharField()
    is_suggested = serializers.BooleanField(help_text="Whether a call without codes applies it.")


class ProposalsSerializer(serializers.Serializer):
    """The fixes of one version."""

    version = serializers.IntegerField()
    fixes = ProposalSerializer(many=True)


class ApplyFixesSerializer(VersionQuerySerializer):
    """Which fixes of which version."""

    codes = serializers.ListField(
        child=serializers.ChoiceField(sorted(ACTIONS)),
        required=False,
        allow_empty=False,
        help_text="Codes of the problems to fix; all that are suggested, if left out.",
    )


class MadeVersionSerializer(VersionSerializer):
    """The version that fixes, a mapping or a review made. ``id`` is the dataset's; a pipeline refers to it as ``reference``."""

    id = serializers.UUIDField(source="dataset_id")
    reference = serializers.SerializerMethodField()

    class Meta(VersionSerializer.Meta):
        fields = ["id", *VersionSerializer.Meta.fields, "reference"]

    def get_reference(self, version: DatasetVersion) -> str:
        """Return what a config's ``file_path`` takes."""
        return f"dataset:{version.dataset_id}@{version.number}"


class DiffQuerySerializer(serializers.Serializer):
    """Which versions, and how many rows to show."""

    to = serializers.IntegerField(min_value=1, max_value=_LAST_NUMBER, required=False, help_text="The newest, if left out.")
    samples = serializers.IntegerField(min_value=0, max_value=100, default=20, help_text="Rows to show of each kind.")

    def get_fields(self) -> dict[str, serializers.Field]:
        """Return the fields, among them ``from``, which is no name for a Python attribute."""
        help_text = "The one that it was made from, if left out, or the one before."
        before = serializers.IntegerField(min_value=1, max_value=_LAST_NUMBER, required=False, help_text=help_text)
        return {"from": before, **super().get_fields()}


class ShownRowSerializer(serializers.Serializer):
    """A row with its numbers, and its columns; of a changed row, those that differ, and what differs in them."""

    before_number = serializers.IntegerField(allow_null=True)
    after_number = serializers.IntegerField(allow_null=True)
    before = serializers.DictField()
    after = serializers.DictField()
    marks = serializers.DictField(
        help_text='Of each changed column {"before", "after"}: its text in pieces [text, differs], which join to it.'
    )


class RowsDiffSerializer(serializers.Serializer):
    """Counts of rows, and the first rows of each kind."""

    unchanged = serializers.IntegerField()
    added = serializers.IntegerField()
    removed = serializers.IntegerField()
    changed = serializers.IntegerField(help_text="Rows that ask or answer the same, or stand in the same place.")
    added_rows = ShownRowSerializer(many=True)
    removed_rows = ShownRowSerializer(many=True)
    changed_rows = ShownRowSerializer(many=True)


class DiffSerializer(serializers.Serializer):
    """What differs between two versions."""

    before = serializers.IntegerField(help_text="Number of the version compared from.")
    after = serializers.IntegerField(help_text="Number of the version compared to.")
    columns = serializers.ListField(child=serializers.DictField(), help_text='{"name", "before", "after"}: types, or null.')
    formats = serializers.ListField(child=serializers.DictField())
    rows = RowsDiffSerializer()
