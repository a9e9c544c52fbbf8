"""Train in child processes that are killed at chosen points, one after the other, until one comes to the end.

    python -m celery_workers.training.tests.killing FOLDER [--kill step:2]

Each child goes on from the newest checkpoint in ``FOLDER/store``; the last one leaves ``FOLDER/weights.safetensors`` and
``FOLDER/history.json``. A child kills itself, so that the point is exact: no handler runs, nothing is flushed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from celery_workers.contract import Examples
from celery_workers.contract.testing import RecordingContext
from celery_workers.modeling.tokenizer import tokenizer_digest
from celery_workers.training.config import TrainingConfig
from celery_workers.training.sources import Sources

POINTS = ("step", "save", "store", "evaluation", "epoch")
"""The n-th step done; the n-th file touched while a checkpoint is written; the n-th checkpoint half handed over; the n-th
batch of an evaluation; the n-th epoch's last step done."""
REPOSITORY = Path(__file__).parents[3]


@dataclass(kw_only=True)
class DoomedContext(RecordingContext):
    """Stores checkpoints as the platform does, whole or not at all, and kills the process at the n-th ``point``."""

    store: Path
    point: str = ""
    left: int = 0
    evaluations: list[int] = field(default_factory=list)

    def reach(self, point: str) -> None:
        """Count one ``point``, and end the process if it was the last one wanted."""
        if point == self.point:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def metric(self, message: str, *, step: int, epoch: float | None = None, loss: float | None = None, **data: float) -> None:
        """A step is done."""
        super().metric(message, step=step, epoch=epoch, loss=loss, **data)
        if loss is not None:
            self.reach("step")
            if epoch == int(epoch or 0.5):
                self.reach("epoch")

    def checkpoint(self, path: Path, *, step: int, keep: int = 2) -> None:
        """Copy the folder to the store, file by file, and let it appear whole."""
        super().checkpoint(path, step=step, keep=keep)
        scratch = self.store / ".incoming"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        for number, file in enumerate(sorted(path.iterdir())):
            if number == 2:
                self.reach("store")
            shutil.copyfile(file, scratch / file.name)
        scratch.rename(self.store / f"{step:06d}")

    @property
    def is_stopping(self) -> bool:
        """An evaluation looks once a batch."""
        if any(frame.name == "evaluate_examples" for frame in traceback.extract_stack()):
            self.reach("evaluation")
        return False


def run_child(folder: Path, *, kill: str = "") -> int:
    """Run one child to its end, and return its exit status: -9 where it was killed."""
    command = [sys.executable, "-m", "celery_workers.training.tests.killing", str(folder), "--kill", kill]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(done.stderr[-4000:])
    return done.returncode


def run_child_for(folder: Path, seconds: float) -> int:
    """Run one child, kill it so many seconds after it began to train, and return its exit status."""
    command = [sys.executable, "-m", "celery_workers.training.tests.killing", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(seconds)
        child.kill()
    return child.returncode


def prepare(folder: Path, *, base_folder: Path, examples: Path, eval_examples: Path, config: TrainingConfig) -> None:
    """Write down what every child of ``folder`` trains."""
    folder.mkdir(parents=True)
    (folder / "store").mkdir()
    paths = {"base": base_folder, "examples": examples, "eval_examples": eval_examples}
    described = {**{name: str(path.resolve()) for name, path in paths.items()}, "config": config.model_dump(mode="json")}
    (folder / "training.json").write_text(json.dumps(described), encoding="utf-8")


def newest(folder: Path) -> Path | None:
    """Return the newest checkpoint in the store."""
    return max((path for path in (folder / "store").iterdir() if not path.name.startswith(".")), default=None)


def result_of(folder: Path) -> tuple[bytes, dict[str, object]]:
    """Return the weights and the measured losses that the last child left."""
    return (folder / "weights.safetensors").read_bytes(), json.loads((folder / "history.json").read_text(encoding="utf-8"))


def main() -> None:
    """Train to the end, or to the point of the kill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill", default="", help="point:count")
    arguments = parser.parse_args()
    from celery_workers.training import passes
    from celery_workers.training.checkpoint import save_weights
    from celery_workers.training.loop import train

    passes.EVAL_TOKENS_PER_BATCH = 16  # several batches, so that an evaluation can be killed in its midst
    folder: Path = arguments.folder
    described = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    metadata = {"tokenizer_digest": tokenizer_digest(Path(described["base"]))}
    sources = Sources(
        base_folder=Path(described["base"]),
        examples=Examples(path=Path(described["examples"]), metadata=metadata),
        eval_examples=Examples(path=Path(described["eval_examples"]), metadata=metadata),
    )
    point, _, count = arguments.kill.partition(":")
    workdir = folder / "work"
    shutil.rmtree(workdir, ignore_errors=True)
    workdir.mkdir()
    context = DoomedContext(
        workdir=workdir, store=folder / "store", seed=11, resume_from=newest(folder), point=point, left=int(count or 0)
    )
    sys.addaudithook(lambda event, values: _watch_files(context, event, values))
    sys.stdout.write("training\n")
    sys.stdout.flush()
    training = train(context, TrainingConfig.model_validate(described["config"]), sources)
    save_weights(training.parameters, folder / "weights.safetensors")
    history = training.history
    measured = {name: getattr(history, name) for name in ("losses", "grad_norms", "eval_steps", "eval_losses", "metrics")}
    (folder / "history.json").write_text(json.dumps(measured), encoding="utf-8")


def _watch_files(context: DoomedContext, event: str, values: tuple[object, ...]) -> None:
    if event in ("open", "os.rename", "os.link") and ".partial" in str(values[0]):
        context.reach("save")


if __name__ == "__main__":
    main()
