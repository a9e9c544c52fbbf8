from __future__ import annotations

import pytest
from django.http import QueryDict

from celery_workers.agents.preprocessing import PreprocessingConfig
from datasets_app.api.tokens import TokensQuerySerializer
from datasets_app.token_options import OF_THE_SET, options


def test_every_option_of_the_agent_is_of_the_set_or_of_a_row() -> None:
    assert PreprocessingConfig.model_fields.keys() >= OF_THE_SET
    assert {option.name for option in options()} == PreprocessingConfig.model_fields.keys() - OF_THE_SET


def read(address: str) -> dict[str, object]:
    query = TokensQuerySerializer(data=QueryDict(address))
    query.is_valid(raise_exception=True)
    return dict(query.validated_data)


def test_what_is_left_out_is_the_agents_default() -> None:
    asked = read("row=2")
    config = PreprocessingConfig(base_model="local:a", **{name: asked[name] for name in asked if name in config_names()})

    assert config == PreprocessingConfig(base_model="local:a")
    assert (asked["row"], asked["chunk"]) == (2, 1)


def config_names() -> set[str]:
    return {option.name for option in options()}


def test_options_of_every_kind_are_read() -> None:
    asked = read(
        "strip_html=true&clean=false&mask_personal_data=email&mask_personal_data=key&languages=en&languages=de"
        "&max_length_tokens=64&template=custom&custom_template=a%0Ab&train_on_roles=user&chunk_overlap_tokens=4"
    )

    assert (asked["strip_html"], asked["clean"]) == (True, False)
    assert (asked["mask_personal_data"], asked["languages"]) == (["email", "key"], ["en", "de"])
    assert (asked["max_length_tokens"], asked["chunk_overlap_tokens"]) == (64, 4)
    assert (asked["template"], asked["custom_template"], asked["train_on_roles"]) == ("custom", "a\nb", ["user"])


@pytest.mark.parametrize("address", ["mask_personal_data=name", "max_length_tokens=7", "over_long=cut", "clean=maybe"], ids=str)
def test_a_value_that_the_agent_would_refuse_is_refused(address: str) -> None:
    assert not TokensQuerySerializer(data=QueryDict(address)).is_valid()
