"""One platform for all of these tests, with a Valkey that a test may stop and start."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from celery_workers.conftest import tiny_model_folder, tiny_tokenizer  # noqa: F401 - fixtures
from platform_site.embedded.account import service_account
from platform_site.embedded.ports import free_port
from platform_site.embedded.valkey import Valkey
from platform_site.tests.platform.harness import Platform


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark these tests, and keep them on one worker of pytest-xdist: they share a platform."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.platform)
            item.add_marker(pytest.mark.xdist_group("platform"))
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def model_roots(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:  # noqa: F811
    """A folder with the model ``local:tiny``."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_model_folder, folder / "tiny")
    return folder


@dataclass
class RunningPlatform:
    """A ready platform and the Valkey behind it."""

    platform: Platform
    valkey: Valkey


@pytest.fixture(scope="session")
def running(model_roots: Path) -> Iterator[RunningPlatform]:
    """The platform on embedded PostgreSQL and on a Valkey of its own; a test that breaks a part mends it again."""
    platform = Platform()
    platform.folder.chmod(0o711)
    valkey = Valkey(
        home=platform.folder, port=free_port(), password=secrets.token_hex(8), account=service_account(),
        log_file=platform.folder / "valkey.log",
    )  # fmt: skip
    platform.settings = {
        "REDIS_URL": f"redis://:{valkey.password}@127.0.0.1:{valkey.port}/0",
        "MODEL_ROOTS": str(model_roots),
    }
    valkey.prepare()
    valkey.start()
    try:
        valkey.wait_ready()
        platform.start()
        platform.make_token()
        yield RunningPlatform(platform, valkey)
    finally:
        if platform.launcher and platform.launcher.poll() is None:
            platform.stop()
        valkey.stop()
        platform.remove()


@pytest.fixture
def platform(running: RunningPlatform) -> Platform:
    """The ready platform."""
    return running.platform
