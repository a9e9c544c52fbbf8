"""Do what its config says, good or bad.

The agent of the supervisor's tests; agent processes find it by ``--registry pipelines.engine.tests.acting:registry``.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from celery_workers.contract import Agent, AgentConfig, AgentContext, AgentSpec, Category, File, UserInputError
from celery_workers.contract.agent import describe

REGISTRY = f"{__name__}:registry"


class ActingConfig(AgentConfig):
    act: str = Field("answer", description="Name of the act.")
    count: int = Field(1, ge=0, description="How often.")


@dataclass(frozen=True, kw_only=True)
class ActingInputs:
    pass


@dataclass(frozen=True, kw_only=True)
class ActingOutputs:
    file: File


class ActingAgent(Agent[ActingConfig, ActingInputs, ActingOutputs]):
    title = "Acting"
    category = Category.DATA

    def run(self, ctx: AgentContext, config: ActingConfig, inputs: ActingInputs) -> ActingOutputs:
        """Perform the act, then answer with what it returned as JSON."""
        said = ACTS[config.act](ctx, config)
        path = ctx.workdir / "said.json"
        path.write_text(json.dumps(said), encoding="utf-8")
        return ActingOutputs(file=File(path=path, metadata={"act": config.act}))


def registry() -> dict[str, AgentSpec]:
    """Return the one agent."""
    return {"ActingAgent": describe(ActingAgent, name="acting")}


def _answer(ctx: AgentContext, config: ActingConfig) -> object:
    return {"cwd": str(Path.cwd()), "seed": ctx.seed, "attempt": ctx.attempt, "resume_from": str(ctx.resume_from)}


def _environment(ctx: AgentContext, config: ActingConfig) -> object:
    return dict(os.environ)


def _random(ctx: AgentContext, config: ActingConfig) -> object:
    import random

    import numpy as np

    return [random.random(), float(np.random.random()), hash("text")]


def _talk(ctx: AgentContext, config: ActingConfig) -> object:
    for step in range(1, config.count + 1):
        ctx.metric("step", step=step, epoch=0.5, loss=float("nan"), grad_norm=float("inf"), rate=0.1)
        ctx.progress(step / config.count, step=step, total_steps=config.count)
    ctx.log("said", level="DEBUG", path=Path("/a"), nothing=None)
    return None


def _checkpoint(ctx: AgentContext, config: ActingConfig) -> object:
    folder = ctx.workdir / "checkpoint"
    folder.mkdir()
    for step in range(1, config.count + 1):
        ctx.checkpoint(folder, step=step)
        ctx.log(f"went on after {step}")
    return None


def _checkpoint_when_stopped(ctx: AgentContext, config: ActingConfig) -> object:
    ctx.log("running")
    while not ctx.is_stopping:
        time.sleep(0.01)
    _checkpoint(ctx, config)
    ctx.check_canceled()
    return None


def _wait(ctx: AgentContext, config: ActingConfig) -> object:
    ctx.log("running")
    while True:
        ctx.check_canceled()
        time.sleep(0.01)


def _ignore(ctx: AgentContext, config: ActingConfig) -> object:
    ctx.log("running")
    time.sleep(600)
    return None


def _leave_grandchild(ctx: AgentContext, config: ActingConfig) -> object:
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; print('grandchild', flush=True); time.sleep(600)"])
    ctx.log("running", grandchild=grandchild.pid)
    return grandchild.pid


def _leave_grandchild_and_wait(ctx: AgentContext, config: ActingConfig) -> object:
    _leave_grandchild(ctx, config)
    return _ignore(ctx, config)


def _print(ctx: AgentContext, config: ActingConfig) -> object:
    for number in range(config.count):
        sys.stdout.write(f"line {number}\n")
    sys.stderr.write("to stderr\n")
    os.write(1, b"straight to the descriptor\n")
    return None


def _print_one_long_line(ctx: AgentContext, config: ActingConfig) -> object:
    sys.stdout.write("x" * config.count)
    return None


def _warn(ctx: AgentContext, config: ActingConfig) -> object:
    import logging
    import warnings

    logging.getLogger("library").warning("careful with %s", "that")
    warnings.warn("old", stacklevel=1)
    return None


def _exit(ctx: AgentContext, config: ActingConfig) -> object:
    sys.stderr.write("last words\n")
    os._exit(config.count)


def _sys_exit(ctx: AgentContext, config: ActingConfig) -> object:
    sys.exit(config.count)


def _signal_self(ctx: AgentContext, config: ActingConfig) -> object:
    os.kill(os.getpid(), config.count)
    time.sleep(600)
    return None


def _segfault(ctx: AgentContext, config: ActingConfig) -> object:
    ctypes.string_at(1)
    return None


def _abort_without_memory(ctx: AgentContext, config: ActingConfig) -> object:
    sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.kill(os.getpid(), signal.SIGABRT)
    return None


def _allocate(ctx: AgentContext, config: ActingConfig) -> object:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
    return len(bytearray(2**31))


def _fill_memory(ctx: AgentContext, config: ActingConfig) -> object:
    ctx.log("running")
    blocks = []
    while True:
        blocks.append(b"x" * 2**20)
        time.sleep(0.001)


def _fill_disk(ctx: AgentContext, config: ActingConfig) -> object:
    with Path("/dev/full").open("wb") as file:
        file.write(b"x")
    return None


def _user_error(ctx: AgentContext, config: ActingConfig) -> object:
    raise UserInputError("rank must be <= 8, got 9", code="bad_rank", field="rank", evidence={"rank": 9, "loss": float("nan")})


def _bug(ctx: AgentContext, config: ActingConfig) -> object:
    return {}["missing"]


def _reference(ctx: AgentContext, config: ActingConfig) -> object:
    return str(ctx.reference("local:model"))


def _escape(ctx: AgentContext, config: ActingConfig) -> object:
    (ctx.workdir / "said.json").symlink_to("/dev/null")
    return None


def _is_socket(number: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False


def _socket_fd() -> int:
    """Find the protocol's socket, as a hostile or broken library might."""
    return next(number for number in range(64, 256) if _is_socket(number))


def _speak_nonsense(ctx: AgentContext, config: ActingConfig) -> object:
    payload = b'{"type":"result","outputs":{},"surprise":1}'
    os.write(_socket_fd(), len(payload).to_bytes(4, "big") + payload)
    time.sleep(600)
    return None


def _announce_huge_frame(ctx: AgentContext, config: ActingConfig) -> object:
    os.write(_socket_fd(), b"\xff\xff\xff\xff")
    time.sleep(600)
    return None


def _answer_twice(ctx: AgentContext, config: ActingConfig) -> object:
    payload = b'{"type":"result","outputs":{}}'
    os.write(_socket_fd(), (len(payload).to_bytes(4, "big") + payload) * 2)
    time.sleep(600)
    return None


def _answer_outside(ctx: AgentContext, config: ActingConfig) -> object:
    payload = b'{"type":"result","outputs":{"file":[{"kind":"file","path":"/etc/passwd"}]}}'
    os.write(_socket_fd(), len(payload).to_bytes(4, "big") + payload)
    time.sleep(600)
    return None


def _keep_thread(ctx: AgentContext, config: ActingConfig) -> object:
    threading.Thread(target=time.sleep, args=(600,)).start()
    return None


Act = Callable[[AgentContext, ActingConfig], object]
ACTS: dict[str, Act] = {
    name.removeprefix("_").replace("_", " "): value
    for name, value in list(globals().items())
    if name.startswith("_")
    and callable(value)
    and getattr(value, "__module__", "") == __name__
    and name not in ("_socket_fd", "_is_socket")
}
