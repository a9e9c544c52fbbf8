"""Name what a training is made of, so that a checkpoint is never taken up by another one."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

from celery_workers.modeling.loading import ADAPTER_WEIGHTS
from celery_workers.training.checkpoint import Identity
from celery_workers.training.config import TrainingConfig
from celery_workers.training.rows import content_digest
from celery_workers.training.sources import Sources

LIBRARIES = ("torch", "transformers", "peft", "numpy")
_HEAD_BYTES = 1 << 16


def describe_training(config: TrainingConfig, *, seed: int, sources: Sources) -> Identity:
    """Return the digests of data, config, base model and code."""
    adapter = sources.adapter_folder
    return Identity(
        examples=content_digest(sources.examples),
        eval_examples=content_digest(sources.eval_examples) if sources.eval_examples else "",
        base_model=base_digest(sources.base_folder),
        first_adapter=_file_digest(adapter / ADAPTER_WEIGHTS) if adapter else "",
        config=config.model_dump(mode="json"),
        seed=seed,
        versions={**{name: importlib.metadata.version(name) for name in LIBRARIES}, "code": code_digest()},
    )


def base_digest(folder: Path) -> str:
    """Return a sha256 over the config and, per weight file, its name, size and first 64 KiB.

    That is the header with every tensor's name, type and place: enough to tell base models apart without reading
    gigabytes at each start. The platform checks the whole content when it fetches a model.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(f"{path.name} {path.stat().st_size}".encode() + file.read(_HEAD_BYTES))
    return digest.hexdigest()


def code_digest() -> str:
    """Return a sha256 over the source of this package."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
