"""The ``AgentContext`` that an agent gets in its own process."""

from __future__ import annotations

import time
from pathlib import Path

from celery_workers.child_link import Link
from celery_workers.contract.context import LogLevel
from celery_workers.contract.errors import BugError, Canceled, UserInputError
from celery_workers.contract.messages import Checkpoint, Log, Metric, Progress, Request

BUNDLED = "bundled:"


class ChildContext:
    """Speaks to the supervisor over ``link``; see ``AgentContext`` for what each method promises."""

    def __init__(self, request: Request, link: Link) -> None:
        self._link = link
        self._references = request.references
        self.workdir = Path(request.workdir).resolve()
        self.run_id = request.run_id
        self.node = request.node
        self.attempt = request.attempt
        self.seed = request.seed
        self.memory_failures = request.memory_failures
        self.resume_from = Path(request.resume_from) if request.resume_from else None

    def reference(self, value: str) -> Path:
        """Return the local path; the bundled model is unpacked at its first use.

        Raises: UserInputError: nothing was resolved for ``value``.
        """
        if value not in self._references:
            raise UserInputError(f"nothing was resolved for {value!r}", code="unresolved_reference")
        path = Path(self._references[value])
        if value.startswith(BUNDLED) and not (path / "config.json").exists():
            from celery_workers.modeling import bundled

            self.log(f"Unpacking {value}; this is done once.")
            bundled.ensure(value.removeprefix(BUNDLED), path)
        return path

    def log(self, message: str, *, level: LogLevel = "INFO", **data: object) -> None:
        """Write one log line."""
        self._link.send(Log(level=level, message=message, timestamp=time.time(), data=data))

    def metric(self, message: str, *, step: int, epoch: float | None = None, loss: float | None = None, **data: float) -> None:
        """Record numbers at a training step. Scalars of numpy and torch are taken as well."""
        numbers: dict[str, float | str] = {name: float(value) for name, value in data.items()}
        loss = None if loss is None else float(loss)
        self._link.send(Metric(message=message, timestamp=time.time(), step=step, epoch=epoch, loss=loss, data=numbers))

    def progress(self, fraction: float, *, step: int | None = None, total_steps: int | None = None) -> None:
        """Say how far the node is; values outside 0 to 1 are brought to the nearer end."""
        self._link.send(Progress(fraction=min(1.0, max(0.0, fraction)), step=step, total_steps=total_steps))

    def checkpoint(self, path: Path, *, step: int, keep: int = 2) -> None:
        """Hand over a checkpoint folder, and wait until it is stored.

        Raises: BugError: it is no folder below the workdir.
        """
        path = path.resolve()
        if not path.is_dir() or not path.is_relative_to(self.workdir):
            raise BugError(f"a checkpoint must be a folder below the workdir, got {path}", code="invalid_checkpoint")
        self._link.send_and_wait_stored(Checkpoint(path=str(path), step=step, keep=keep), step=step)

    def check_canceled(self) -> None:
        """Raise ``Canceled`` if the agent was told to stop."""
        if self.is_stopping:
            raise Canceled(self._link.stop_code)

    @property
    def is_stopping(self) -> bool:
        """Whether the agent was told to stop."""
        return self._link.stop_code is not None
