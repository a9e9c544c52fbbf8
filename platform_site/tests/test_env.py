"""Settings are read from the environment, checked, and all listed in .env.example."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from platform_site.env import ROOT, Environment, read_environment
from platform_site.management.commands.env_example import env_example


def test_env_example_lists_every_variable_as_it_is():
    assert (ROOT / ".env.example").read_text() == env_example(), "run: python manage.py env_example --write"


def test_env_example_uncommented_gives_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines = env_example().splitlines()
    file = tmp_path / ".env"
    file.write_text("\n".join(line.removeprefix("#") for line in lines if line.startswith("#") and not line.startswith("# ")))
    for name in Environment.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    defaults = Environment(_env_file=None)
    read = Environment(_env_file=file)
    assert read.model_dump(exclude={"var_dir"}) == defaults.model_dump(exclude={"var_dir"})
    assert ROOT / read.var_dir == defaults.var_dir


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("API_PORT", "70000", "less than or equal to 65535"),
        ("API_PORT", "eighty", "valid integer"),
        ("DATABASE_URL", "mysql://x/y", "match pattern"),
        ("DEFAULT_LORA_DROPOUT", "1", "less than 1"),
        ("GPU_ENABLED", "perhaps", "valid boolean"),
    ],
)
def test_bad_value_stops_the_start_with_one_line_that_names_it(name, value, rule, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        read_environment()
    message = str(stopped.value)
    assert message.startswith(f"{name}: ")
    assert rule in message
    assert value in message
    assert "\n" not in message


def test_environment_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".env").write_text("API_PORT=8100\nDEFAULT_LORA_R=8\n")
    monkeypatch.setenv("API_PORT", "8200")
    monkeypatch.delenv("DEFAULT_LORA_R", raising=False)
    environment = Environment(_env_file=tmp_path / ".env")
    assert (environment.api_port, environment.default_lora_r) == (8200, 8)


def test_lists_are_read_by_comma(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFAULT_TARGET_MODULES", "q_proj, k_proj,,v_proj")
    assert read_environment().default_target_modules == ["q_proj", "k_proj", "v_proj"]


@pytest.mark.parametrize("secret", ["", "short", "change-me-0123456789-0123456789-0123456789"])
def test_production_refuses_a_weak_secret(secret: str):
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "platform_site.settings.prod", "SECRET_KEY": secret}
    result = subprocess.run(
        [sys.executable, "-c", "from django.conf import settings; settings.DEBUG"],
        env=environment, capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.startswith("SECRET_KEY: production needs an own random value")
