"""The disk of the store is full: one clear error, nothing half-made, and work goes on when there is room again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from platform_site.tests.platform.harness import Platform, chat_rows, pipeline

STORE_BYTES = 4 * 1024 * 1024


@pytest.fixture(scope="module")
def small(model_roots) -> Iterator[Platform]:
    """A platform whose store lies on a file system of a few megabytes."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount a small file system")
    platform = Platform(settings={"MODEL_ROOTS": str(model_roots)})
    store = platform.var_dir / "storage"
    store.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={STORE_BYTES}", "tmpfs", str(store)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        platform.remove()
        pytest.skip("this container may not mount a file system")
    try:
        platform.start()
        platform.make_token()
        yield platform
    finally:
        if platform.launcher and platform.launcher.poll() is None:
            platform.stop()
        subprocess.run(["umount", "--lazy", str(store)], check=False)
        platform.remove()


def stored_files(platform: Platform) -> list[Path]:
    return [path for path in (platform.var_dir / "storage").rglob("*") if path.is_file()]


def test_upload_that_does_not_fit_is_refused_and_leaves_nothing(small: Platform):
    before = stored_files(small)
    row = '{"instruction": "Say it.", "input": "", "output": "' + "x" * 1000 + '"}\n'
    files = {"file": ("big.jsonl", (row * (2 * STORE_BYTES // len(row))).encode())}
    answer = small.request("POST", "/datasets/upload", files=files, data={"name": "big"})
    assert answer.status_code == 507, answer.text
    assert answer.json()["code"] == "storage_full"
    assert small.get("/datasets")["results"] == []
    assert stored_files(small) == before


def test_run_that_finds_the_store_full_fails_as_resource_and_succeeds_when_retried(small: Platform):
    dataset = small.upload(chat_rows(40), name="sums")
    filler = small.var_dir / "storage" / "filler"
    with filler.open("wb") as file:
        free = os.statvfs(filler).f_bavail * os.statvfs(filler).f_frsize
        file.write(b"\0" * (free - 4096))
    run_id = small.start_run(pipeline(dataset, training={"max_steps": 3}, full=False))
    job = small.wait_until_ended(run_id)
    assert (job["status"], job["error"]["kind"]) == ("failed", "resource"), job

    filler.unlink()
    assert small.request("POST", f"/jobs/{run_id}/retry").status_code in (200, 201, 202)
    job = small.wait_until_ended(run_id)
    assert job["status"] == "succeeded", job
    events = small.history(run_id)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
