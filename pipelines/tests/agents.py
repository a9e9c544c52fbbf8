"""Tiny agents for tests of the graph and the engine; handed over as ``specs``, never registered."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from pydantic import Field

from celery_workers.contract import (
    Agent,
    AgentConfig,
    AgentContext,
    AgentSpec,
    BaseModelRef,
    BugError,
    Category,
    DataRef,
    Dataset,
    Examples,
    InfrastructureError,
    Model,
    Queue,
    Report,
    ReportDocument,
    ResourceError,
    UserInputError,
)
from celery_workers.contract.agent import describe


@dataclass(frozen=True, kw_only=True)
class NoInputs:
    """A source takes nothing."""


@dataclass(frozen=True, kw_only=True)
class DatasetOut:
    dataset: Dataset


class SourceConfig(AgentConfig):
    text: str = Field("hello", max_length=100, description="What to write.")
    file_path: DataRef | None = Field(None, description="A file to copy instead.")


class SourceAgent(Agent[SourceConfig, NoInputs, DatasetOut]):
    """Write a little dataset."""

    title = "Source"
    category = Category.DATA

    def run(self, ctx: AgentContext, config: SourceConfig, inputs: NoInputs) -> DatasetOut:
        folder = ctx.workdir / "dataset"
        folder.mkdir()
        content = ctx.reference(config.file_path).read_bytes() if config.file_path else config.text.encode()
        (folder / "rows.parquet").write_bytes(content)
        ctx.log("wrote rows", rows=1)
        return DatasetOut(dataset=Dataset(path=folder, metadata={"rows": 1}))


@dataclass(frozen=True, kw_only=True)
class DatasetIn:
    dataset: Dataset


@dataclass(frozen=True, kw_only=True)
class CheckOut:
    dataset: Dataset
    report: Report


class CheckConfig(AgentConfig):
    fail: Literal["", "user", "resource", "infrastructure", "bug"] = Field("", description="How to fail.")
    fail_attempts: int = Field(100, ge=0, le=100, description="Attempts that fail before one succeeds.")
    pause_seconds: float = Field(0, ge=0, le=600, description="Seconds to do nothing in.")


class CheckAgent(Agent[CheckConfig, DatasetIn, CheckOut]):
    """Pass a dataset on, or fail as told."""

    title = "Check"
    category = Category.DATA

    def run(self, ctx: AgentContext, config: CheckConfig, inputs: DatasetIn) -> CheckOut:
        errors = {"user": UserInputError, "resource": ResourceError, "infrastructure": InfrastructureError, "bug": BugError}
        if config.fail and ctx.attempt <= config.fail_attempts:
            raise errors[config.fail](f"told to fail with {config.fail}", evidence={"attempt": ctx.attempt})
        if config.pause_seconds:
            ctx.log("pausing")
        ends_at = time.monotonic() + config.pause_seconds
        while time.monotonic() < ends_at:
            ctx.check_canceled()
            time.sleep(0.02)
        folder = ctx.workdir / "checked"
        folder.mkdir()
        (folder / "rows.parquet").write_bytes((inputs.dataset.path / "rows.parquet").read_bytes())
        path = ctx.workdir / "report.json"
        report = ReportDocument(kind="check", title="Check", summary={"rows": 1})
        return CheckOut(dataset=Dataset(path=folder), report=Report(path=path, metadata=dict(report.write(path))))


@dataclass(frozen=True, kw_only=True)
class ExamplesOut:
    examples: Examples
    eval_examples: Examples | None = None


class SplitConfig(AgentConfig):
    base_model: BaseModelRef | None = Field(None, description="Model whose tokens are made.")
    has_eval: bool = Field(True, description="Whether to hold rows out.")


class SplitAgent(Agent[SplitConfig, DatasetIn, ExamplesOut]):
    """Make examples of a dataset."""

    title = "Split"
    category = Category.DATA

    def run(self, ctx: AgentContext, config: SplitConfig, inputs: DatasetIn) -> ExamplesOut:
        content = (inputs.dataset.path / "rows.parquet").read_bytes()
        made = []
        for name in ("train", "eval") if config.has_eval else ("train",):
            folder = ctx.workdir / name
            folder.mkdir()
            (folder / "examples.arrow").write_bytes(name.encode() + content)
            made.append(Examples(path=folder, metadata={"base_model": config.base_model} if config.base_model else {}))
        return ExamplesOut(examples=made[0], eval_examples=made[1] if len(made) > 1 else None)


@dataclass(frozen=True, kw_only=True)
class TrainIn:
    examples: Examples
    eval_examples: Examples | None = None


@dataclass(frozen=True, kw_only=True)
class ModelOut:
    model: Model
    report: Report


class TrainConfig(AgentConfig):
    learning_rate: float = Field(0.001, gt=0, le=1, description="Step size.")
    steps: int = Field(4, ge=1, le=10_000, description="Steps to take.")
    die_at_step: int = Field(0, ge=0, description="First attempt: fail after this step's checkpoint.")
    needed_memory_failures: int = Field(0, ge=0, description="Run out of memory until so many attempts have.")


class TrainAgent(Agent[TrainConfig, TrainIn, ModelOut]):
    """Count steps with a checkpoint after each, starting where the last one was left."""

    title = "Train"
    category = Category.TRAINING
    queue = Queue.GPU

    def run(self, ctx: AgentContext, config: TrainConfig, inputs: TrainIn) -> ModelOut:
        first = int((ctx.resume_from / "step").read_text()) if ctx.resume_from else 0
        ctx.log(f"starting at step {first}")
        if ctx.memory_failures < config.needed_memory_failures:
            raise ResourceError("told to need less", code="out_of_memory")
        for step in range(first + 1, config.steps + 1):
            ctx.check_canceled()
            ctx.metric("step", step=step, loss=1 / step, learning_rate=config.learning_rate)
            ctx.progress(step / config.steps, step=step, total_steps=config.steps)
            folder = ctx.workdir / "checkpoint"
            folder.mkdir(exist_ok=True)
            (folder / "step").write_text(str(step))
            ctx.checkpoint(folder, step=step)
            if step == config.die_at_step and ctx.attempt == 1:
                raise InfrastructureError("told to die")
        model = ctx.workdir / "model"
        model.mkdir()
        weights = hashlib.sha256((inputs.examples.path / "examples.arrow").read_bytes()).hexdigest()
        (model / "weights").write_text(f"{weights} {config.learning_rate} {ctx.seed}")
        path = ctx.workdir / "report.json"
        report = ReportDocument(kind="train", title="Train", summary={"first_step": first})
        return ModelOut(
            model=Model(path=model, metadata={"model_kind": "adapter", "base_model": "bundled:none"}),
            report=Report(path=path, metadata=dict(report.write(path))),
        )


@dataclass(frozen=True, kw_only=True)
class ReportsIn:
    reports: list[Report]


@dataclass(frozen=True, kw_only=True)
class ReportOut:
    report: Report


class JoinConfig(AgentConfig):
    title: str = Field("Joined", description="Title of the report.")


class JoinAgent(Agent[JoinConfig, ReportsIn, ReportOut]):
    """Join reports."""

    title = "Join"
    category = Category.EVALUATION

    def run(self, ctx: AgentContext, config: JoinConfig, inputs: ReportsIn) -> ReportOut:
        path = ctx.workdir / "report.json"
        report = ReportDocument(kind="join", title=config.title, summary={"reports": len(inputs.reports)})
        return ReportOut(report=Report(path=path, metadata=dict(report.write(path))))


@dataclass(frozen=True, kw_only=True)
class TwoReportsIn:
    left: Report
    right: Report | None = None


class PickAgent(Agent[JoinConfig, TwoReportsIn, ReportOut]):
    """Take a report on the left and perhaps one on the right."""

    title = "Pick"
    category = Category.EVALUATION

    def run(self, ctx: AgentContext, config: JoinConfig, inputs: TwoReportsIn) -> ReportOut:
        return ReportOut(report=Report(path=inputs.left.path))


AGENTS = (SourceAgent, CheckAgent, SplitAgent, TrainAgent, JoinAgent, PickAgent)


def specs() -> dict[str, AgentSpec]:
    """Return the test agents as the registry would."""
    found = [describe(agent, name=agent.__name__.removesuffix("Agent").lower()) for agent in AGENTS]
    return {spec.class_name: spec for spec in found}


def node(name: str, agent_class: str, **config: object) -> dict[str, object]:
    """Return a node of the pipeline JSON."""
    return {"agent_name": name, "agent_class": agent_class, "config": config}


def edge(start: str, end: str) -> dict[str, object]:
    """Return an edge of the pipeline JSON from ``node`` or ``node.port`` to ``node`` or ``node.port``."""
    from_agent, _, from_port = start.partition(".")
    to_agent, _, to_port = end.partition(".")
    ports = {"from_port": from_port, "to_port": to_port}
    return {"from_agent": from_agent, "to_agent": to_agent, **{key: value for key, value in ports.items() if value}}


def chain(**configs: dict[str, object]) -> dict[str, object]:
    """Return source -> check -> split -> train, with the configs given by node name."""
    agents = {"source": "SourceAgent", "check": "CheckAgent", "split": "SplitAgent", "train": "TrainAgent"}
    names = list(agents)
    return {
        "nodes": [node(name, agent, **configs.get(name, {})) for name, agent in agents.items()],
        "edges": [edge(start, end) for start, end in pairwise(names)],
    }
