"""The CUDA devices of this machine, found without torch, and the slots that lend them."""

from __future__ import annotations

import csv
import logging
import os
import shutil
import subprocess
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from django.conf import settings

logger = logging.getLogger(__name__)

CPU = "cpu"
QUERY = ["--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
QUERY_SECONDS = 20  # a driver that wakes up takes several


@dataclass(frozen=True, kw_only=True)
class Device:
    """One GPU. ``id`` is what ``CUDA_VISIBLE_DEVICES`` of a pinned process is set to: its UUID.

    UUIDs, because CUDA numbers devices by speed unless told otherwise, and nvidia-smi by their place on the bus.
    """

    id: str
    name: str
    memory_bytes: int | None = None


@cache
def devices() -> tuple[Device, ...]:
    """Return the devices that this machine's gpu worker may lend; none with ``GPU_ENABLED=false``.

    ``CUDA_VISIBLE_DEVICES`` selects among them, by index as nvidia-smi shows it, or by UUID, MIG instances included.
    """
    if not settings.ENV.gpu_enabled:
        return ()
    found = _installed_devices()
    # An empty .env value counts as not set; in the process's own environment, empty hides every device, as CUDA has it.
    visible = settings.ENV.cuda_visible_devices or os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(found if visible is None else select(found, visible))


def _installed_devices() -> list[Device]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run([program, *QUERY], capture_output=True, text=True, timeout=QUERY_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("nvidia-smi cannot be asked, so the gpu queue runs on the CPU: %s", error)
        return []
    return parse_listing(done.stdout)


def parse_listing(listing: str) -> list[Device]:
    """Read what nvidia-smi printed for ``QUERY``, in the order of its indices."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(listing.splitlines()) if len(row) == 4]
    rows.sort(key=lambda row: int(row[0]))
    return [
        Device(id=uuid, name=name, memory_bytes=int(mebibytes) * 2**20 if mebibytes.isdigit() else None)
        for _, uuid, name, mebibytes in rows
    ]


def select(found: Sequence[Device], visible: str) -> list[Device]:
    """Apply ``CUDA_VISIBLE_DEVICES`` as CUDA does: entries after the first one that names no device are ignored."""
    by_name: Mapping[str, Device] = {str(index): device for index, device in enumerate(found)}
    chosen: list[Device] = []
    for entry in (part.strip() for part in visible.split(",")):
        if entry.startswith("MIG-"):  # nvidia-smi lists whole GPUs only; the driver refuses a wrong instance
            device: Device | None = Device(id=entry, name="MIG instance")
        elif entry.startswith("GPU-"):
            device = next((item for item in found if item.id.startswith(entry)), None)
        else:
            device = by_name.get(entry)
        if device is None:
            break
        if device not in chosen:
            chosen.append(device)
    return chosen


class DeviceSlots:
    """Lends each place of a queue to one node at a time. A place is a device's id, or ``cpu``."""

    def __init__(self, places: Sequence[str]) -> None:
        self.places = tuple(places)
        self._free = deque(places)

    @contextmanager
    def lend(self) -> Iterator[str | None]:
        """Lend a free place, or None if there is none. It is free again only when the block is left.

        Leave the block after the process group that used the device is gone, not before.
        """
        try:
            place = self._free.popleft()
        except IndexError:
            yield None
            return
        try:
            yield place
        finally:
            self._free.append(place)
