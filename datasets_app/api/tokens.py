"""Exactly what the trainer will see of a row."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from celery_workers.agents.preprocessing import PreprocessingConfig
from celery_workers.contract.tokens import Part, RowTokens, Seen, Share, State
from datasets_app.api.serializers import VersionQuerySerializer
from datasets_app.api.views import find_version
from datasets_app.models import DatasetVersion
from datasets_app.token_options import Option, options
from datasets_app.tokens import DEFAULT_MODEL, look_at_row, read_options


class TokensQuerySerializer(VersionQuerySerializer):
    """Which row, and how it becomes tokens: the options are those of the preprocessing agent."""

    row = serializers.IntegerField(
        min_value=1, max_value=2**62, default=1, help_text="Position of the row in the file, from 1."
    )
    model = serializers.CharField(
        max_length=300, default=DEFAULT_MODEL, help_text="Base model: bundled:, local:, model: or an id of the Hub."
    )
    chunk = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, default=1, help_text="Which of the examples that a long row is cut into, from 1."
    )

    def get_fields(self) -> dict[str, serializers.Field]:
        """Return the parameters, and a field for each option of the agent's schema."""
        return {**super().get_fields(), **{option.name: _field(option) for option in options()}}


def _field(option: Option) -> serializers.Field:
    about = {"required": False, "help_text": option.description}
    match option.kind:
        case "switch":
            return serializers.BooleanField(default=option.default, help_text=option.description)
        case "number":
            return serializers.IntegerField(min_value=option.minimum, max_value=option.maximum, **about)
        case "choice":
            return serializers.ChoiceField(option.choices, **about)
        case "choices":
            return serializers.ListField(child=serializers.ChoiceField(option.choices), **about)
        case "texts":
            return serializers.ListField(child=serializers.CharField(max_length=100), **about)
        case _:
            return serializers.CharField(
                max_length=option.max_length, allow_blank=option.default == "", trim_whitespace=False, **about
            )


class RowTokenSerializer(serializers.Serializer):
    """One token. The texts of a row's tokens join to its whole text; a token inside a character has none of its own."""

    id = serializers.IntegerField()
    text = serializers.CharField(allow_blank=True, trim_whitespace=False)
    part = serializers.ChoiceField(Part.__args__, help_text="What it belongs to; other: the tokenizer does not say.")  # type: ignore[attr-defined]
    trained = serializers.BooleanField(help_text="Whether the model learns to write it.")


class AnswerTokensSerializer(serializers.Serializer):
    """The prompt of a preference with its rejected answer."""

    length_tokens = serializers.IntegerField()
    supervised_tokens = serializers.IntegerField()
    tokens = RowTokenSerializer(many=True)


class TrainedShareSerializer(serializers.Serializer):
    """How much of the set is trained, over the rows that were looked at."""

    sample = serializers.ChoiceField(["all", "spread", "first"], help_text="All rows, rows spread evenly, or the first rows.")
    rows = serializers.IntegerField(help_text="Rows that were looked at.")
    kept_rows = serializers.IntegerField(help_text="Those that are trained.")
    left_out_rows = serializers.DictField(child=serializers.IntegerField(), help_text="The others, by reason.")
    tokens = serializers.IntegerField()
    supervised_tokens = serializers.IntegerField()
    fraction = serializers.FloatField(allow_null=True, help_text="supervised_tokens of tokens; null where there are none.")


class RowTokensSerializer(serializers.Serializer):
    """A row as the trainer gets it. ``state`` other than kept: it gets nothing, and code and message say why."""

    version = serializers.IntegerField()
    row = serializers.IntegerField(help_text="Position in the file, from 1.")
    rows = serializers.IntegerField(help_text="Rows of the file.")
    row_number = serializers.IntegerField(help_text="The row's number in reports; lines without a row count there.")
    model = serializers.CharField()
    template = serializers.CharField()
    format = serializers.CharField()
    state = serializers.ChoiceField(State.__args__)  # type: ignore[attr-defined]
    code = serializers.CharField(allow_blank=True)
    message = serializers.CharField(allow_blank=True)
    length_tokens = serializers.IntegerField()
    max_length_tokens = serializers.IntegerField()
    supervised_tokens = serializers.IntegerField()
    cut_tokens = serializers.IntegerField(
        help_text="Tokens cut from the row's end; where answers are compared or judged, from the beginning of their prompts."
    )
    chunks = serializers.IntegerField(help_text="Examples that a long row of text is cut into.")
    chunk = serializers.IntegerField(help_text="Which of them tokens are of, from 1.")
    repeated_tokens = serializers.IntegerField(
        help_text="Tokens with which this chunk repeats the end of the one before; they are not trained again."
    )
    is_answer_cut = serializers.BooleanField(help_text="Whether trained tokens were among those.")
    has_special_tokens = serializers.BooleanField(help_text="Whether a content holds a special token of the model.")
    tokens = RowTokenSerializer(
        many=True, help_text="The first 4096; length_tokens says how many there are. Of a preference: with the chosen answer."
    )
    rejected = AnswerTokensSerializer(allow_null=True, help_text="The same with the rejected answer; null in other formats.")
    is_desirable = serializers.BooleanField(
        allow_null=True, help_text="Whether a judged answer (kto) is wanted; null in other formats."
    )
    share = TrainedShareSerializer()


class TokensView(APIView):
    """A row token by token."""

    @extend_schema(operation_id="datasets_tokens", parameters=[TokensQuerySerializer], responses=RowTokensSerializer)
    def get(self, request: Request, id: UUID) -> Response:
        """Return every token of a row exactly as the trainer gets it, and how much of the set is trained.

        Made by the code that preprocessing runs. The first answer for a model takes seconds; whether the row repeats another
        one is only counted in the share.
        """
        query = TokensQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        asked = query.validated_data
        version = find_version(request, id, asked.pop("version", None))
        row, chunk = asked.pop("row"), asked.pop("chunk")
        config = read_options(**asked)
        seen = look_at_row(user=request.user, version=version, row=row, chunk=chunk, config=config)
        return Response(_answer(version, row, config, seen))


def _answer(version: DatasetVersion, row: int, config: PreprocessingConfig, seen: Seen) -> dict[str, object]:
    place = {
        "version": version.number,
        "row": row,
        "rows": version.rows,
        "model": config.base_model,
        "template": config.template,
    }
    found: RowTokens = seen.row
    about = {"format": seen.format, "max_length_tokens": seen.max_length_tokens}
    return {**place, **about, **found.model_dump(), "share": _share(seen.share)}


def _share(share: Share) -> dict[str, object]:
    fraction = share.supervised_tokens / share.tokens if share.tokens else None
    return {**share.model_dump(), "fraction": fraction}
