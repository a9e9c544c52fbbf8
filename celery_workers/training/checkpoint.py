"""Save a training whole, and take it up again exactly.

A checkpoint folder holds ``adapter.safetensors`` (trained weights), ``optimizer.safetensors`` (its state),
``random.safetensors`` (states of torch's generators), ``reference.safetensors`` (what the reference said, for objectives
that have one), ``best.safetensors`` (the weights of the best evaluation, where they become the result), ``state.json``
(step, history, how much is computed at once) and ``checkpoint.json``: the sha256 of each of these, and what the training
was: data, config, base model, precision, versions. The order of rows and the learning rate follow from the step. Nothing
is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from celery_workers.contract.errors import InfrastructureError, UserInputError
from celery_workers.modeling.precision import Precision
from celery_workers.training.history import History
from celery_workers.training.recovery import MemoryUse, random_states, set_random_states
from celery_workers.training.reference import References

MANIFEST = "checkpoint.json"
ADAPTER, OPTIMIZER, RANDOM, STATE = "adapter.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"
REFERENCE, BEST = "reference.safetensors", "best.safetensors"
FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What must be the same for a checkpoint to be taken up. Digests are sha256 in hex.

    ``versions`` (of libraries and of this package's code) may differ: results can then differ in the last bits, so the
    loop says so in the log.
    """

    examples: str
    eval_examples: str
    base_model: str
    first_adapter: str
    config: dict[str, object]
    seed: int
    versions: dict[str, str]

    def differences(self, saved: Mapping[str, object]) -> list[str]:
        """Return one line for each thing in which ``saved`` differs, versions aside."""
        lines = []
        for name, value in asdict(self).items():
            before = saved.get(name)
            if name == "config" and isinstance(before, dict):
                keys = sorted(set(before) | set(self.config))
                lines += [
                    f"{key}: {before.get(key)!r} -> {self.config.get(key)!r}"
                    for key in keys
                    if before.get(key) != self.config.get(key)
                ]
            elif name != "versions" and before != value:
                lines.append(f"{name}: {before!r} -> {value!r}")
        return lines


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint folder whose checksums were right."""

    folder: Path
    step: int
    precision: Precision
    versions: dict[str, str]
    history: History
    memory: MemoryUse
    references: References
    best: Path | None


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    parameters: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    history: History,
    memory: MemoryUse,
    references: References,
    best: Path | None,
    precision: Precision,
    identity: Identity,
) -> None:
    """Write a complete checkpoint to ``folder``, which appears whole or not at all.

    ``best`` is a file of ``save_weights``, on the same disk.

    Raises: OSError: the disk is full, or the folder exists.
    """
    scratch = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    save_weights(parameters, scratch / ADAPTER)
    save_file(_optimizer_tensors(parameters, optimizer), scratch / OPTIMIZER)
    save_file(random_states(), scratch / RANDOM)
    if tensors := references.to_tensors():
        save_file(tensors, scratch / REFERENCE)
    if best is not None:
        os.link(best, scratch / BEST)
    state = {"step": step, "history": asdict(history), "memory": asdict(memory)}
    (scratch / STATE).write_text(json.dumps(state), encoding="utf-8")
    manifest = {
        "format": FORMAT,
        "step": step,
        "precision": precision,
        "identity": asdict(identity),
        "sha256": {path.name: _sha256(path) for path in sorted(scratch.iterdir())},
    }
    (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in scratch.iterdir():
        _flush_to_disk(path)
    scratch.rename(folder)


def open_checkpoint(folder: Path, *, identity: Identity) -> Checkpoint:
    """Verify the checkpoint in ``folder`` and read all of it but weights, optimizer and random states.

    Raises: InfrastructureError: a file is missing or does not have its checksum. UserInputError: it belongs to other data
    or settings; the message gives the differences.
    """
    manifest = _verified_manifest(folder)
    saved, state = manifest["identity"], json.loads((folder / STATE).read_text(encoding="utf-8"))
    differences = identity.differences(saved)
    if differences:
        raise UserInputError(
            f"the checkpoint belongs to another training: {'; '.join(differences)}",
            code="checkpoint_mismatch",
            evidence={"differences": differences},
        )
    return Checkpoint(
        folder=folder,
        step=state["step"],
        precision=manifest["precision"],
        versions=saved["versions"],
        history=History(**state["history"]),
        memory=MemoryUse(**state["memory"]),
        references=References.from_tensors(load_file(folder / REFERENCE) if REFERENCE in manifest["sha256"] else {}),
        best=folder / BEST if BEST in manifest["sha256"] else None,
    )


def _verified_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        broken = [name for name, sha256 in manifest["sha256"].items() if _sha256(folder / name) != sha256]
    except (OSError, ValueError, KeyError) as error:
        raise InfrastructureError(f"the checkpoint is incomplete: {error!r}", code="broken_checkpoint") from error
    if broken or manifest.get("format") != FORMAT:
        what = f"damaged: {', '.join(broken)}" if broken else f"of format {manifest.get('format')}; this release reads {FORMAT}"
        raise InfrastructureError(f"the checkpoint is {what}", code="broken_checkpoint")
    return manifest


def restore(checkpoint: Checkpoint, *, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Put weights, optimizer and random states back; must be the last thing before the loop, as set-up draws numbers.

    Raises: UserInputError: the weights are not those of this model.
    """
    load_weights(checkpoint.folder / ADAPTER, parameters)
    _restore_optimizer(load_file(checkpoint.folder / OPTIMIZER), parameters, optimizer)
    set_random_states(load_file(checkpoint.folder / RANDOM))


def save_weights(parameters: Mapping[str, torch.nn.Parameter], path: Path) -> None:
    """Write the trained weights to ``path``.

    Raises: OSError: the disk is full.
    """
    save_file({name: parameter.detach().contiguous() for name, parameter in parameters.items()}, path)


def load_weights(path: Path, parameters: Mapping[str, torch.nn.Parameter]) -> None:
    """Put the weights of ``save_weights`` into ``parameters``.

    Raises: UserInputError: they are not those of this model.
    """
    weights = load_file(path)
    if {name: tensor.shape for name, tensor in weights.items()} != {name: item.shape for name, item in parameters.items()}:
        raise UserInputError("the checkpoint holds weights of another model", code="checkpoint_mismatch")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def _optimizer_tensors(
    parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, parameter in parameters.items():
        for key, value in optimizer.state[parameter].items():
            tensor = value.detach().contiguous() if isinstance(value, torch.Tensor) else torch.tensor(value)
            if tensor.data_ptr() in seen:  # the 8-bit optimizer's code tables are one object; safetensors stores none twice
                tensor = tensor.clone()
            seen.add(tensor.data_ptr())
            tensors[f"{name}/{key}"] = tensor
    return tensors


def _restore_optimizer(
    tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    for full_name, tensor in tensors.items():
        name, _, key = full_name.rpartition("/")
        parameter = parameters[name]
        is_count = tensor.ndim == 0 and tensor.dtype == torch.int64  # the 8-bit optimizer counts its steps in a plain int
        optimizer.state[parameter][key] = int(tensor) if is_count else tensor.to(parameter.device)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
