from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from celery_workers.training.config import GROUPS, TrainingConfig


def test_form_shows_the_groups_one_after_the_other() -> None:
    groups = [field["group"] for field in TrainingConfig.model_json_schema()["properties"].values()]
    assert list(dict.fromkeys(groups)) == list(GROUPS)
    assert groups == sorted(groups, key=GROUPS.index)


def test_a_least_improvement_needs_early_stopping() -> None:
    with pytest.raises(ValidationError, match="early_stopping_min_delta needs early_stopping_patience"):
        TrainingConfig(early_stopping_min_delta=0.1)


def test_target_modules_take_names_by_comma_or_as_a_list() -> None:
    assert TrainingConfig(target_modules="q_proj, v_proj").target_modules == ["q_proj", "v_proj"]
    assert TrainingConfig(target_modules=["all-linear"]).target_modules == ["all-linear"]
    with pytest.raises(ValidationError, match="not both"):
        TrainingConfig(target_modules="q_proj,all-linear")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"method": "full", "use_dora": True}, "use_dora belongs to methods lora and qlora, got method full"),
        ({"method": "full", "modules_to_save": "lm_head"}, "modules_to_save belongs to methods lora and qlora"),
        ({"method": "qlora", "train_modules": "lm_head"}, "train_modules belongs to method full, got method qlora"),
    ],
    ids=["dora-full", "saved-full", "parts-qlora"],
)
def test_options_of_another_method_are_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainingConfig.model_validate(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [("learning_rate", 0), ("lora_r", 0), ("lora_dropout", 1), ("epochs", 0), ("warmup_fraction", 1), ("surprise", 1)],
)
def test_values_out_of_range_name_their_field(field: str, value: float) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainingConfig.model_validate({field: value})
    assert caught.value.errors()[0]["loc"] == (field,)


def test_operator_sets_the_defaults_that_the_form_shows() -> None:
    code = (
        "from celery_workers.training.config import TrainingConfig as C; s = C.model_json_schema()['properties'];"
        "print(C().lora_r, C().target_modules, s['lora_r']['default'], s['target_modules']['default'])"
    )
    environment = {"DEFAULT_LORA_R": "3", "DEFAULT_TARGET_MODULES": "all-linear", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "['all-linear']", "3", "['all-linear']"]
