"""Train in a process of its own whose address space may grow by so many bytes only, and say what happened.

python -m celery_workers.training.tests.capped training.json weights.safetensors [--growth-bytes N]
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from pathlib import Path

from celery_workers.contract import Examples, ResourceError
from celery_workers.contract.testing import RecordingContext
from celery_workers.modeling.tokenizer import tokenizer_digest
from celery_workers.training.config import TrainingConfig
from celery_workers.training.sources import Sources


def main() -> None:
    """Set up without a cap, then train under it; print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("training", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--growth-bytes", type=int, default=0)
    arguments = parser.parse_args()
    from celery_workers.training.checkpoint import save_weights
    from celery_workers.training.loop import run_steps
    from celery_workers.training.setup import set_up

    described = json.loads(arguments.training.read_text(encoding="utf-8"))
    base_folder = Path(described["base"])
    metadata = {"tokenizer_digest": tokenizer_digest(base_folder)}
    sources = Sources(base_folder=base_folder, examples=Examples(path=Path(described["examples"]), metadata=metadata))
    context = RecordingContext(workdir=arguments.weights.parent, seed=11)
    training = set_up(context, TrainingConfig.model_validate(described["config"]), sources)

    before, resident_before = _status("VmSize"), _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM counts from here
    if arguments.growth_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (before + arguments.growth_bytes, resource.RLIM_INFINITY))
    error = ""
    try:
        run_steps(training)
    except ResourceError as raised:
        error = raised.message
    growth = _status("VmHWM") - resident_before
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    save_weights(training.parameters, arguments.weights)
    said = {
        "error": error,
        "growth_bytes": growth,
        "losses": training.history.losses,
        "halvings": training.memory.halvings,
        "is_checkpointing": training.memory.is_checkpointing,
        "log": [log.message for log in context.logs],
    }
    sys.stdout.write(json.dumps(said) + "\n")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


if __name__ == "__main__":
    main()
