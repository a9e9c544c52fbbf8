"""The process that keeps the embedded services of one VAR_DIR for as long as anybody uses them.

``python -m platform_site.embedded.keeper VAR_DIR SERVICE… [--fast-and-fragile]`` writes down where they will listen, starts
them, prints ``ready`` and then waits for the lock file ``users``, which everybody who uses them shares. The kernel drops a
dead process's share, so the keeper ends the services in order however the last user ended; and the services are tethered
to the keeper. It has its own session: Ctrl-C at the terminal does not reach it.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from platform_site.embedded.account import Account, choose_home, service_account
from platform_site.embedded.locks import FileLock
from platform_site.embedded.ports import free_port
from platform_site.embedded.postgres import Postgres
from platform_site.embedded.service import Service
from platform_site.embedded.state import STATE_FILE, EmbeddedError, State, read_state, write_state
from platform_site.embedded.valkey import Valkey

WATCH_SECONDS = 0.5
KEEPER_LOCK = "embedded/keeper.lock"
USERS_LOCK = "embedded/users.lock"

logger = logging.getLogger("keeper")


class _Common(TypedDict):
    home: Path
    account: Account
    is_durable: bool


def plan(var_dir: Path, names: Sequence[str], *, is_durable: bool) -> tuple[State, list[Service]]:
    """Choose home, ports and passwords, keeping what the last start chose where it still can be."""
    account = service_account()
    state = read_state(var_dir)
    if not state.home:
        chosen = choose_home(var_dir, account)
        state.home = str(chosen.relative_to(var_dir) if chosen.is_relative_to(var_dir) else chosen)
    home, logs = var_dir / state.home, var_dir / "logs"
    if not home.is_dir():
        raise EmbeddedError(
            f"{home}, which holds the data, is gone: restore it, or remove {var_dir / STATE_FILE} to start empty."
        )
    common: _Common = {"home": home, "account": account, "is_durable": is_durable}
    services: list[Service] = []
    if "postgres" in names:
        if not state.postgres_password and (home / "postgres").exists():
            raise EmbeddedError(f"The password of {home / 'postgres'} is lost (it was in state.json): move that folder away.")
        state.postgres_password = state.postgres_password or secrets.token_hex(24)
        state.postgres_port = port = free_port(preferred=state.postgres_port)
        services.append(Postgres(port=port, password=state.postgres_password, log_file=logs / "postgres.log", **common))
    if "valkey" in names:
        state.valkey_password = state.valkey_password or secrets.token_hex(24)
        state.valkey_port = port = free_port(preferred=state.valkey_port)
        services.append(Valkey(port=port, password=state.valkey_password, log_file=logs / "valkey.log", **common))
    state.running, state.keeper_pid = list(names), os.getpid()
    return state, services


def keep(services: Sequence[Service], *, stop: threading.Event) -> None:
    """Wait for ``stop``; start a service again that ended by itself, with a growing pause."""
    pauses = dict.fromkeys((service.name for service in services), WATCH_SECONDS)
    while not stop.wait(WATCH_SECONDS):
        for service in services:
            code = service.process.poll() if service.process else None
            if code is None:
                continue
            logger.error("%s ended with exit code %s; starting it again", service.name, code)
            try:
                service.start()
                service.wait_ready()
            except EmbeddedError:
                pauses[service.name] = min(30.0, 2 * pauses[service.name])
                logger.exception("%s did not start; next try in %.0f s", service.name, pauses[service.name])
                stop.wait(pauses[service.name])


def _wait_for_users(users: FileLock, stop: threading.Event) -> None:
    users.take()
    stop.set()


def main(arguments: Sequence[str] | None = None) -> int:
    """Keep the services until nobody uses them; 0 if all went well."""
    parser = argparse.ArgumentParser()
    parser.add_argument("var_dir", type=Path)
    parser.add_argument("services", nargs="+", choices=["postgres", "valkey"])
    parser.add_argument("--fast-and-fragile", action="store_true", help="no fsync: for tests")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    keeper_lock = FileLock(options.var_dir / KEEPER_LOCK)
    if not keeper_lock.try_take():
        sys.stdout.write("error Another keeper runs already.\n")
        return 1
    services: list[Service] = []
    try:
        state, services = plan(options.var_dir, options.services, is_durable=not options.fast_and_fragile)
        write_state(options.var_dir, state)  # before any data exists: it holds the passwords
        for service in services:
            service.end_leftover()
            service.prepare()
            service.start()
        for service in services:
            service.wait_ready()
    except (EmbeddedError, OSError) as error:
        stop.set()
        sys.stdout.write(f"error {error}\n")
    else:
        sys.stdout.write("ready\n")
    _leave_stdout()
    users = FileLock(options.var_dir / USERS_LOCK)
    if not stop.is_set():
        threading.Thread(target=_wait_for_users, args=(users, stop), daemon=True).start()
        keep(services, stop=stop)
    for service in reversed(services):
        started = time.monotonic()
        service.stop()
        logger.info("%s stopped in %.1f s", service.name, time.monotonic() - started)
    keeper_lock.release()  # first: whoever waits for `users` must find no keeper
    users.release()
    return 0


def _leave_stdout() -> None:
    """Close the pipe to our starter: it has its answer."""
    sys.stdout.flush()
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)


if __name__ == "__main__":
    sys.exit(main())
