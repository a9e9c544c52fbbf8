"""What a training starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from celery_workers.contract.ports import Examples


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Folders on this machine. ``adapter_folder`` is an adapter to train on; None begins with a new one."""

    base_folder: Path
    examples: Examples
    eval_examples: Examples | None = None
    adapter_folder: Path | None = None
