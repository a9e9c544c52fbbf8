"""Count what only a process of its own can: tokens of rows, and near duplicates, which are reviewed here."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from datasets_app.api.serializers import VersionQuerySerializer
from datasets_app.api.version_serializers import MadeVersionSerializer
from datasets_app.api.views import find_version
from datasets_app.duplicates import Review, apply_decisions, decide, review
from datasets_app.measuring import count_tokens
from datasets_app.models import DatasetVersion, Measurement, PairDecision
from datasets_app.tokens import DEFAULT_MODEL

DECISIONS = PairDecision.Decision.choices
STATES = ["undecided", *PairDecision.Decision.values, "all"]
DEFAULT_THRESHOLD = 0.8


class CountSerializer(VersionQuerySerializer):
    """With which tokenizer."""

    model = serializers.CharField(
        max_length=300, default=DEFAULT_MODEL, help_text="Base model: bundled:, local:, model: or an id of the Hub."
    )
    recount = serializers.BooleanField(default=False, help_text="Count anew what was counted, should the model have changed.")


class TokenLengthsSerializer(serializers.Serializer):
    """Tokens of a row's texts, without a template, over all rows or a seeded sample."""

    version = serializers.IntegerField()
    model = serializers.CharField()
    sample = serializers.ChoiceField(["all", "seeded"])
    rows = serializers.IntegerField(help_text="Rows that were counted.")
    tokens = serializers.IntegerField()
    characters = serializers.IntegerField(help_text="Of these rows.")
    median = serializers.IntegerField(help_text="Tokens that half of the rows have at most.")
    p90 = serializers.IntegerField()
    p99 = serializers.IntegerField()
    longest = serializers.IntegerField()
    longest_row = serializers.IntegerField(help_text="Number of that row.")
    histogram_edges = serializers.ListField(child=serializers.IntegerField(), help_text="Lower edges, in tokens.")
    histogram_rows = serializers.ListField(child=serializers.IntegerField())
    counted_at = serializers.DateTimeField()


class TokenLengthsView(APIView):
    """How many tokens rows have."""

    @extend_schema(
        operation_id="datasets_token_lengths_list",
        parameters=[VersionQuerySerializer],
        responses=TokenLengthsSerializer(many=True),
    )
    def get(self, request: Request, id: UUID) -> Response:
        """Return what was counted of the version, one entry a model, the newest first."""
        query = VersionQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        version = find_version(request, id, query.validated_data.get("version"))
        counted = version.measurements.filter(kind=Measurement.Kind.TOKENS).newest_first()
        return Response([_lengths(version, measurement) for measurement in counted])

    @extend_schema(operation_id="datasets_token_lengths_count", request=CountSerializer, responses=TokenLengthsSerializer)
    def post(self, request: Request, id: UUID) -> Response:
        """Count the tokens of the rows' texts with a model's tokenizer; of more than 5,000 rows, or of very long ones, a
        seeded sample. What was counted before is the answer at once.
        """
        body = CountSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        version = find_version(request, id, asked.get("version"))
        counted = count_tokens(user=request.user, version=version, model=asked["model"], recount=asked["recount"])
        return Response(_lengths(version, counted))


class ThresholdSerializer(VersionQuerySerializer):
    """How similar rows must be."""

    threshold = serializers.FloatField(
        min_value=0.5,
        max_value=1,
        default=DEFAULT_THRESHOLD,
        help_text="Smallest similarity: shared runs of 8 bytes.",
    )


class ReviewQuerySerializer(ThresholdSerializer):
    """Which pairs."""

    state = serializers.ChoiceField(STATES, default="all", help_text="Pairs with this decision, or none yet.")
    offset = serializers.IntegerField(min_value=0, max_value=100_000, default=0, help_text="Pairs to pass over.")
    limit = serializers.IntegerField(min_value=1, max_value=50, default=10, help_text="Pairs to return.")


class PairSerializer(serializers.Serializer):
    """Two rows that nearly repeat each other; their texts in pieces ``[text, differs]``, long ones cut at 4,000 characters."""

    first = serializers.IntegerField(source="pair.first", help_text="Number of the row that stands further up.")
    second = serializers.IntegerField(source="pair.second")
    similarity = serializers.FloatField(source="pair.similarity", help_text="0 to 1, exact.")
    decision = serializers.ChoiceField(DECISIONS, allow_null=True)
    first_text = serializers.ListField(child=serializers.ListField(), source="first")
    second_text = serializers.ListField(child=serializers.ListField(), source="second")


class ReviewSerializer(serializers.Serializer):
    """Pairs of a version, the most similar first."""

    version = serializers.IntegerField()
    threshold = serializers.FloatField()
    rows = serializers.IntegerField()
    compared_rows = serializers.IntegerField(help_text="The first rows, where there are more than 200,000.")
    capped_rows = serializers.IntegerField(help_text="Rows that were not compared with all that resemble them.")
    pairs_total = serializers.IntegerField(help_text="Pairs found; the 2,000 most similar ones can be reviewed.")
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="Pairs by decision.")
    pairs = PairSerializer(many=True)


class DecisionSerializer(serializers.Serializer):
    """A decision on a pair; null takes it back."""

    first = serializers.IntegerField()
    second = serializers.IntegerField()
    decision = serializers.ChoiceField(DECISIONS, allow_null=True)


class DecideSerializer(ThresholdSerializer):
    """Decisions on pairs that were found from ``threshold`` on."""

    decisions = DecisionSerializer(many=True, max_length=1000, default=list)
    rest = serializers.ChoiceField(DECISIONS, required=False, help_text="Decision for all pairs that have none yet.")


class DuplicatesView(APIView):
    """Near duplicates of a version."""

    @extend_schema(operation_id="datasets_duplicates", parameters=[ReviewQuerySerializer], responses=ReviewSerializer)
    def get(self, request: Request, id: UUID) -> Response:
        """Return pairs of rows that nearly repeat each other, with their texts and what was decided.

        The first call for a version and threshold looks for them, which takes seconds.
        """
        query = ReviewQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        asked = dict(query.validated_data)
        version = find_version(request, id, asked.pop("version", None))
        return Response(_review(version, review(version=version, **asked)))


class DecisionsView(APIView):
    """Decisions on near duplicates."""

    @extend_schema(operation_id="datasets_duplicates_decide", request=DecideSerializer, responses={204: None})
    def post(self, request: Request, id: UUID) -> Response:
        """Note decisions; they change nothing until they are applied."""
        body = DecideSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        version = find_version(request, id, asked.get("version"))
        decisions = {(item["first"], item["second"]): item["decision"] for item in asked["decisions"]}
        decide(version=version, threshold=asked["threshold"], decisions=decisions, rest=asked.get("rest"))
        return Response(status=status.HTTP_204_NO_CONTENT)


class ApplyDecisionsView(APIView):
    """Decisions on near duplicates, as a new version."""

    @extend_schema(
        operation_id="datasets_duplicates_apply",
        request=VersionQuerySerializer,
        responses={201: MadeVersionSerializer, 200: MadeVersionSerializer},
    )
    def post(self, request: Request, id: UUID) -> Response:
        """Make a version without the rows that were decided against; the version itself stays as it is.

        200 instead of 201: a version with that content exists already, and is the answer.
        """
        body = VersionQuerySerializer(data=request.data)
        body.is_valid(raise_exception=True)
        made = apply_decisions(version=find_version(request, id, body.validated_data.get("version")))
        answer = MadeVersionSerializer(made.version).data
        return Response(answer, status=status.HTTP_201_CREATED if made.created else status.HTTP_200_OK)


def _lengths(version: DatasetVersion, counted: Measurement) -> dict[str, object]:
    about = {"version": version.number, "model": counted.subject, "counted_at": counted.created_at}
    return dict(TokenLengthsSerializer({**about, **counted.result}).data)


def _review(version: DatasetVersion, found: Review) -> dict[str, object]:
    answer = {"version": version.number, **found.found.model_dump(), "counts": found.counts, "pairs": found.pairs}
    return dict(ReviewSerializer(answer).data)
