"""Devices are found without torch, chosen as CUDA would choose them, and lent one node each."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_workers import gpu
from celery_workers.gpu import Device, DeviceSlots, devices, parse_listing, select

# Two rows as nvidia-smi 550 prints them for gpu.QUERY.
LISTING = """\
1, GPU-22222222-aaaa-bbbb-cccc-000000000002, NVIDIA A100-SXM4-80GB, 81920
0, GPU-11111111-aaaa-bbbb-cccc-000000000001, NVIDIA H100 80GB HBM3, [N/A]
"""
FIRST = Device(id="GPU-11111111-aaaa-bbbb-cccc-000000000001", name="NVIDIA H100 80GB HBM3")
SECOND = Device(id="GPU-22222222-aaaa-bbbb-cccc-000000000002", name="NVIDIA A100-SXM4-80GB", memory_bytes=81920 * 2**20)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    devices.cache_clear()
    yield
    devices.cache_clear()


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name on the PATH; tests write what it does."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{LISTING}END\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return program


def test_the_listing_is_read_in_the_order_of_indices() -> None:
    assert parse_listing(LISTING) == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1,0", [SECOND, FIRST]),
        ("GPU-2222", [SECOND]),
        ("0,0", [FIRST]),
        ("0,5,1", [FIRST]),
        ("-1", []),
        ("", []),
        ("NoDevFiles", []),
        ("MIG-7", [Device(id="MIG-7", name="MIG instance")]),
    ],
)
def test_devices_are_chosen_as_cuda_does(visible: str, expected: list[Device]) -> None:
    assert select([FIRST, SECOND], visible) == expected


def test_devices_come_from_nvidia_smi(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices() == (FIRST, SECOND)
    devices.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert devices() == (SECOND,)


def test_a_disabled_gpu_is_not_asked_for(nvidia_smi: Path, settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"gpu_enabled": False})
    assert devices() == ()


def test_a_driver_that_fails_leaves_the_cpu(nvidia_smi: Path, caplog: pytest.LogCaptureFixture) -> None:
    nvidia_smi.write_text("#!/bin/sh\nexit 9\n")
    assert devices() == ()
    assert "runs on the CPU" in caplog.text


def test_a_place_is_lent_to_one_at_a_time() -> None:
    slots = DeviceSlots(["GPU-1", "GPU-2"])
    with slots.lend() as one, slots.lend() as two, slots.lend() as none:
        assert ({one, two}, none) == ({"GPU-1", "GPU-2"}, None)
    with slots.lend() as again:
        assert again is not None


def test_a_place_comes_back_when_its_node_breaks() -> None:
    slots = DeviceSlots(["cpu"])
    with pytest.raises(OSError, match="broke"), slots.lend():
        raise OSError("broke")
    with slots.lend() as place:
        assert place == "cpu"


def test_no_place_is_lent_twice_under_contention() -> None:
    slots, held, clashes = DeviceSlots(["a", "b"]), set(), []

    def work() -> None:
        for _ in range(2000):
            with slots.lend() as place:
                if place is None:
                    continue
                if place in held:
                    clashes.append(place)
                held.add(place)
                held.discard(place)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clashes == []
    assert gpu.CPU == "cpu"
