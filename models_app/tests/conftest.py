"""A registry as a finished run leaves it, with real content in the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from models_app.tests.registry import Registry


@pytest.fixture
def registry(user, tmp_path: Path) -> Registry:
    """The run ``orders`` of ``user``, with its base, adapter and merged model."""
    from models_app.tests.registry import make_registry

    return make_registry(user, tmp_path)
