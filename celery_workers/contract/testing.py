"""Run an agent in a test, in this process, under the checks of the real one::

    outputs = run_agent(CountAgent, {"minimum_rows": 2}, {"dataset": dataset}, workdir=tmp_path)
    context = RecordingContext(workdir=tmp_path, cancel_after_checks=3)
    with pytest.raises(Canceled):
        run_agent(CountAgent, {}, {"dataset": dataset}, context=context)
    assert context.checkpoints[-1].step == 3

``check_agent`` is the contract that every agent of the registry must keep.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from celery_workers.contract.agent import Agent, AgentSpec, describe
from celery_workers.contract.config import AgentConfig
from celery_workers.contract.context import LogLevel
from celery_workers.contract.errors import BugError, Canceled, UserInputError
from celery_workers.contract.messages import PortValue, finite_or_text, plain_json
from celery_workers.contract.ports import Port
from celery_workers.contract.wiring import build_inputs, read_config, read_outputs

HEAVY_MODULES = ("torch", "transformers", "peft", "accelerate", "pyarrow", "numpy", "django", "celery", "channels")


@dataclass(frozen=True, kw_only=True)
class RecordedLog:
    """One call of ``ctx.log``."""

    level: str
    message: str
    data: dict[str, object]


@dataclass(frozen=True, kw_only=True)
class RecordedMetric:
    """One call of ``ctx.metric``. NaN and infinities are text, as on the wire."""

    message: str
    step: int
    epoch: float | None
    loss: float | str | None
    data: dict[str, float | str]


@dataclass(frozen=True, kw_only=True)
class RecordedCheckpoint:
    """One call of ``ctx.checkpoint``; the folder is left where the agent made it."""

    path: Path
    step: int
    keep: int


@dataclass(kw_only=True)
class RecordingContext:
    """An ``AgentContext`` that keeps what it is told.

    ``cancel_after_checks=n`` lets n looks (``check_canceled`` or ``is_stopping``) pass, and stops the agent at the next.
    """

    workdir: Path
    run_id: str = "test-run"
    node: str = "test-node"
    attempt: int = 1
    seed: int = 0
    memory_failures: int = 0
    resume_from: Path | None = None
    references: Mapping[str, Path] = field(default_factory=dict)
    cancel_after_checks: int | None = None
    checks: int = 0
    logs: list[RecordedLog] = field(default_factory=list)
    metrics: list[RecordedMetric] = field(default_factory=list)
    fractions: list[float] = field(default_factory=list)
    checkpoints: list[RecordedCheckpoint] = field(default_factory=list)

    def reference(self, value: str) -> Path:
        """Return what ``references`` holds for ``value``."""
        if value not in self.references:
            raise UserInputError(f"nothing was resolved for {value!r}", code="unresolved_reference")
        return Path(self.references[value])

    def log(self, message: str, *, level: LogLevel = "INFO", **data: object) -> None:
        """Keep the line as it would be sent."""
        plain = {name: plain_json(value) for name, value in data.items()}
        self.logs.append(RecordedLog(level=level, message=message, data=plain))

    def metric(self, message: str, *, step: int, epoch: float | None = None, loss: float | None = None, **data: float) -> None:
        """Keep the numbers as they would be sent."""
        numbers = {name: _wire_number(value) for name, value in data.items()}
        recorded_loss = None if loss is None else _wire_number(loss)
        self.metrics.append(RecordedMetric(message=message, step=step, epoch=epoch, loss=recorded_loss, data=numbers))

    def progress(self, fraction: float, *, step: int | None = None, total_steps: int | None = None) -> None:
        """Keep the fraction.

        Raises: ValueError: it is not between 0 and 1, or the step lies beyond the total.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction must be 0 to 1, got {fraction}")
        if step is not None and total_steps is not None and step > total_steps:
            raise ValueError(f"step must be at most total_steps, got {step} of {total_steps}")
        self.fractions.append(fraction)

    def checkpoint(self, path: Path, *, step: int, keep: int = 2) -> None:
        """Note the checkpoint's place; the folder must exist below the workdir."""
        if not path.is_dir() or not path.resolve().is_relative_to(self.workdir.resolve()):
            raise BugError(f"a checkpoint must be a folder below the workdir, got {path}", code="invalid_checkpoint")
        self.checkpoints.append(RecordedCheckpoint(path=path, step=step, keep=keep))

    def check_canceled(self) -> None:
        """Count the look, and raise ``Canceled`` after the allowed number."""
        if self.is_stopping:
            raise Canceled("the test canceled this agent")

    @property
    def is_stopping(self) -> bool:
        """Count the look, and say whether the allowed number is used up."""
        self.checks += 1
        return self.cancel_after_checks is not None and self.checks > self.cancel_after_checks


def _wire_number(value: float) -> float | str:
    number = finite_or_text(float(value))
    return number if isinstance(number, str) else float(value)


def run_agent(
    agent: type[Agent[AgentConfig, object, object]] | AgentSpec,
    config: Mapping[str, object] | None = None,
    inputs: Mapping[str, Port | Sequence[Port] | None] | None = None,
    *,
    workdir: Path | None = None,
    context: RecordingContext | None = None,
    references: Mapping[str, Path] | None = None,
    seed: int = 0,
    resume_from: Path | None = None,
) -> object:
    """Run ``agent`` and return its outputs, checked; the paths are absolute.

    Give either ``workdir`` (with ``references``, ``seed``, ``resume_from`` as wanted) or a ``context`` that has them.

    Raises: UserInputError: the config is refused. BugError: inputs or outputs break the contract. Whatever the agent raises.
    """
    spec = agent if isinstance(agent, AgentSpec) else describe(agent, name=agent.__module__.rpartition(".")[2])
    if context is None:
        if workdir is None:
            raise TypeError("run_agent needs a workdir or a context")
        context = RecordingContext(workdir=workdir, references=references or {}, seed=seed, resume_from=resume_from)
    wired = {name: _port_values(value) for name, value in (inputs or {}).items() if value is not None}
    outputs = spec.agent_class().run(context, read_config(spec, config or {}), build_inputs(spec, wired))
    read_outputs(spec, outputs, workdir=context.workdir)
    return outputs


def _port_values(value: Port | Sequence[Port]) -> list[PortValue]:
    items = [value] if isinstance(value, Port) else list(value)
    return [
        PortValue(kind=item.kind.value, path=str(item.path.resolve()), metadata=item.metadata, sha256=item.sha256)
        for item in items
    ]


def check_agent(spec: AgentSpec) -> None:
    """Check what the palette, the form and the web server rely on.

    Raises: AssertionError: saying which rule the agent breaks.
    """
    _check_texts(spec)
    _check_config(spec)
    _check_import_is_light(spec)


def _check_texts(spec: AgentSpec) -> None:
    if not spec.summary.endswith("."):
        raise AssertionError(f"{spec.class_name}: the module's docstring must open with one sentence, got {spec.summary!r}")
    if not spec.title or spec.version < 1:
        raise AssertionError(f"{spec.class_name}: needs a title and a version of at least 1")
    if not spec.outputs:
        raise AssertionError(f"{spec.class_name}: needs at least one output port")


def _check_config(spec: AgentSpec) -> None:
    if not issubclass(spec.config_class, AgentConfig):
        raise AssertionError(f"{spec.class_name}: its config must subclass AgentConfig")  # noqa: TRY004
    for name, info in spec.config_class.model_fields.items():
        if not (info.description or "").strip():
            raise AssertionError(f"{spec.class_name}: config field {name!r} needs a description")
    json.dumps(spec.config_class.model_json_schema(), allow_nan=False)


def _check_import_is_light(spec: AgentSpec) -> None:
    module = spec.agent_class.__module__
    code = f"import sys, {module}; print(' '.join(name for name in {HEAVY_MODULES!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{module} cannot be imported alone:\n{done.stderr}")
    if done.stdout.strip():
        raise AssertionError(f"importing {module} must not import {done.stdout.strip()}; move it into run")
