"""Export an adapter as a PEFT folder that holds nothing but what loads it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from celery_workers.modeling.tokenizer import copy_tokenizer

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def copy_adapter(source: Path, destination: Path, *, base_model: str) -> None:
    """Copy the adapter and its tokenizer from ``source``; the config names ``base_model`` as the base.

    PEFT writes the folder that the base was loaded from into the config: a path that means nothing elsewhere.

    Raises: FileNotFoundError: ``source`` has no adapter.
    """
    destination.mkdir(parents=True)
    for name in ADAPTER_FILES:
        shutil.copyfile(source / name, destination / name)
    copy_tokenizer(source, destination)
    path = destination / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("base_model_name_or_path") != base_model:
        config["base_model_name_or_path"] = base_model
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
