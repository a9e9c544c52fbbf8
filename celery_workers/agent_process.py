"""The entry point of an agent's own process: warm up, take one request, run it, answer once, end.

    python -m celery_workers.agent_process --socket-fd N --alive-fd M [--warm torch] [--registry module:function]

It leads its own process group and speaks to its supervisor over the socket only; its stdout and stderr are pipes that the
supervisor captures as log lines. It does not outlive its worker: a watchdog, forked before anything else is imported,
holds the read end of a pipe whose write end only the worker has, and kills the whole group at its end of file. (A
parent-death signal would reach the group's leader alone and leave what the leader started, and exists on Linux only; a
thread of the leader could not act while the leader is stopped or a native call holds the interpreter's lock.)
"""

from __future__ import annotations

import argparse
import faulthandler
import fcntl
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:  # imported inside the functions: the watchdog's fork must stay small
    from celery_workers.child_link import Link
    from celery_workers.contract.agent import AgentSpec
    from celery_workers.contract.messages import Failure, Request, Result

WARM_MODULES = {
    "light": ("numpy", "pyarrow", "pyarrow.parquet"),
    "torch": ("numpy", "pyarrow", "torch", "transformers", "peft"),
}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS")
FIRST_PRIVATE_FD = 64  # clear of stdio and of what libraries expect to find low


def main(arguments: list[str] | None = None) -> int:
    """Serve one request and return the exit status, 0 if an answer was sent."""
    options = _parse(arguments)
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    watchdog = _start_watchdog(alive_fd=options.alive_fd, socket_fd=options.socket_fd)
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    _serve(_own_socket(options.socket_fd), warm=options.warm, registry=options.registry)
    os.kill(watchdog, signal.SIGKILL)
    os.waitpid(watchdog, 0)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m celery_workers.agent_process")
    parser.add_argument("--socket-fd", type=int, required=True, help="descriptor of the socket to the supervisor")
    parser.add_argument("--alive-fd", type=int, required=True, help="descriptor of the pipe that ends with the worker")
    parser.add_argument("--warm", choices=sorted(WARM_MODULES), default="light", help="what to import before the request")
    parser.add_argument("--registry", default="celery_workers.agents:registry", help="module:function that lists the agents")
    return parser.parse_args(arguments)


def _start_watchdog(*, alive_fd: int, socket_fd: int) -> int:
    watchdog = os.fork()
    if watchdog:
        os.close(alive_fd)
        return watchdog
    try:
        os.close(socket_fd)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.read(alive_fd, 1)  # nothing is ever written: this returns when the worker is gone
        os.killpg(os.getpgrp(), signal.SIGKILL)
    finally:
        os._exit(1)


def _own_socket(descriptor: int) -> socket.socket:
    private = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_PRIVATE_FD)
    os.close(descriptor)
    return socket.socket(fileno=private)


def _serve(connection: socket.socket, *, warm: str, registry: str) -> None:
    from celery_workers.child_link import Link

    link = Link(connection)
    link.start()
    _warm_up(warm)
    agents = _load_registry(registry)
    link.send_ready()
    request = link.next_request()
    signal.signal(signal.SIGTERM, lambda *_: link.stop_for_shutdown())
    link.send_final(_answer(request, link, agents))


def _warm_up(warm: str) -> None:
    for module in WARM_MODULES[warm]:
        try:
            importlib.import_module(module)
        except ImportError as error:
            sys.stderr.write(f"{module} cannot be imported: {error}\n")


def _load_registry(name: str) -> Mapping[str, AgentSpec]:
    module, _, function = name.partition(":")
    load: Callable[[], Mapping[str, AgentSpec]] = getattr(importlib.import_module(module), function)
    return load()


def _answer(request: Request, link: Link, agents: Mapping[str, AgentSpec]) -> Result | Failure:
    from celery_workers.child_context import ChildContext
    from celery_workers.child_failures import failure_of
    from celery_workers.contract.errors import BugError
    from celery_workers.contract.messages import Result
    from celery_workers.contract.wiring import build_inputs, read_config, read_outputs

    try:
        link.forward_logging()
        spec = agents.get(request.agent)
        if spec is None:
            raise BugError(f"no agent is called {request.agent!r}", code="unknown_agent")
        _prepare(request)
        config, inputs = read_config(spec, request.config), build_inputs(spec, request.inputs)
        outputs = spec.agent_class().run(ChildContext(request, link), config, inputs)
        return Result(outputs=read_outputs(spec, outputs, workdir=Path(request.workdir)))
    except BaseException as error:  # noqa: BLE001 (a SystemExit of the agent must be answered as well)
        return failure_of(error, stop_code=link.stop_code)


def _prepare(request: Request) -> None:
    """Pin the device, bound the threads, enter the workdir and seed every random number generator that is loaded.

    An agent that imports torch itself, in a process that was not warmed with it, must seed it.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if request.device == "cpu" else request.device
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(request.threads)))
    os.chdir(request.workdir)
    import random

    import numpy as np

    random.seed(request.seed)
    np.random.seed(request.seed % 2**32)
    if "pyarrow" in sys.modules:
        import pyarrow as pa

        pa.set_cpu_count(request.threads)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(request.threads)
        torch.manual_seed(request.seed)


def _flush(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:  # the supervisor closed the pipe; the answer has gone out over the socket
        return


if __name__ == "__main__":
    status = main()
    _flush(sys.stdout)
    _flush(sys.stderr)
    os._exit(status)  # not sys.exit: a library's thread or teardown must not hold up or crash an answered process
