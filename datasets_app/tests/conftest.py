"""A small model under ``MODEL_ROOTS``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from celery_workers.conftest import tiny_model_folder, tiny_tokenizer  # noqa: F401 - fixtures


@pytest.fixture
def local_model(settings, tmp_path: Path, tiny_model_folder: Path) -> str:  # noqa: F811
    """The reference of a byte-level model whose chat template is ChatML."""
    shutil.copytree(tiny_model_folder, tmp_path / "roots" / "tiny")
    settings.ENV = settings.ENV.model_copy(update={"model_roots": [str(tmp_path / "roots")]})
    return "local:tiny"
