"""The web process answers people and never computes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from platform_site.env import ROOT
from platform_site.tests.platform.harness import Platform, chat_rows, pipeline

HEAVY = ("torch", "transformers", "peft", "accelerate", "pyarrow._dataset", "sklearn")
LIMIT_BYTES = 250 * 1000 * 1000


@pytest.fixture(scope="module")
def worked(running) -> Platform:
    """The platform after its web server has done a bit of everything."""
    platform = running.platform
    dataset = platform.upload(chat_rows(30), name="web")
    run_id = platform.start_run(pipeline(dataset, training={"max_steps": 2}))
    assert len(list(platform.json_lines(run_id))) > 10
    job = platform.get(f"/jobs/{run_id}")
    assert job["status"] == "succeeded", job
    for path in (
        f"/jobs/{run_id}/progress",
        f"/jobs/{run_id}/metrics",
        "/agents",
        f"/datasets/{dataset['id']}/preview",
        f"/datasets/{dataset['id']}/tokens?model=local:tiny",
        "/models",
    ):
        platform.get(path)
    return platform


def test_web_process_has_not_mapped_torch(worked: Platform):
    maps = Path(f"/proc/{worked.process('uvicorn').pid}/maps")
    if not maps.exists():
        pytest.skip("this system does not tell what a process has mapped")
    assert "libtorch" not in maps.read_text()


def test_workers_have_not_mapped_torch(worked: Platform):
    for queue in ("cpu", "gpu"):
        maps = Path(f"/proc/{worked.process('-Q', queue).pid}/maps")
        if not maps.exists():
            pytest.skip("this system does not tell what a process has mapped")
        assert "libtorch" not in maps.read_text()


def test_web_process_stays_below_its_memory_limit(worked: Platform):
    assert worked.process("uvicorn").memory_info().rss <= LIMIT_BYTES


def test_importing_the_site_and_reading_the_agents_imports_nothing_heavy():
    code = (
        "import sys, platform_site.asgi, platform_site.urls\n"
        "from pipelines.catalog import agents\n"
        "assert len(agents()) >= 7, agents()\n"
        f"heavy = [name for name in {HEAVY} if name in sys.modules]\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
